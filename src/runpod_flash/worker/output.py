"""What user code prints: Python's streams and logging, line by line, with the job that each line belongs to.

`sys.stdout` and `sys.stderr` write records to the log pipe. Output that goes around them (C code,
subprocesses) arrives bare on descriptors 1 and 2, where the host reads it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import sys
import threading
from collections.abc import Iterable
from typing import Any, Final

from runpod_flash.wire.status_page import StatusPage
from runpod_flash.worker.context import CURRENT

_LONGEST_LINE: Final = 64 * 1024


class LogPipe:
    """The pipe to the host. `begin` and `end` enclose a call, and say which job the lines belong to.

    `bare` are the ends that the host reads of the pipes of descriptors 1 and 2: whether something lies there is seen
    in one look at both.
    """

    def __init__(self, fd: int, page: StatusPage, bare: Iterable[int]) -> None:
        self.forked = False
        """Whether this is a child that user code forked: it shares the pipe, so it writes bare instead."""
        self.lock = threading.RLock()  # re-entrant: a signal handler may print
        self.streams: list[_Stream] = []
        self._fd = fd
        self._page = page
        self._bare = select.poll()
        for end in bare:
            self._bare.register(end, select.POLLIN)
        self._raw_before = 0
        self._printed = False
        self._job, self._attempt = '""', 0
        self._shared = False
        self._of: set[str] = set()  # shared: the calls that have printed

    def share(self) -> None:
        """From now on many calls print at once; the context tells whose a line is."""
        self._shared = True
        for stream in self.streams:
            stream.text.reconfigure(write_through=True)  # its buffer would mix them

    def begin(self, job: str, attempt: int) -> None:
        """From now on lines belong to the job whose id is `job`, as JSON."""
        self._job, self._attempt = job, attempt
        self._printed = False
        self._raw_before = self._page.raw_bytes()

    def end(self) -> bool:
        """Completes the last lines of a call; whether it printed anything."""
        for stream in self.streams:
            stream.finish(self._job)
        printed = self._printed or self._bare_output()
        if printed:
            self._write(b'{"end":%b,"attempt":%d}\n' % (self._job.encode(), self._attempt))
        self._job, self._attempt = '""', 0
        return printed

    def end_of(self, job: str) -> bool:
        """The same for one of many: completes its last lines; whether it printed anything."""
        if not self._of:
            for stream in self.streams:  # no `any`, which costs a generator
                if stream.pending:
                    break
            else:
                return False
        of = json.dumps(job)
        for stream in self.streams:
            stream.finish(of)
        if of not in self._of:
            return False
        self._of.discard(of)
        self._write(b'{"end":%b,"attempt":0,"alone":false}\n' % of.encode())
        return True

    def whose(self) -> str:
        """The job that is printing, as JSON."""
        if not self._shared:
            return self._job
        job = CURRENT.get()
        return json.dumps(job.job) if job is not None else '""'

    def emit(self, of: str, fd: int, lines: bytes) -> None:
        """Writes whole lines of the job `of` as one record."""
        self._printed = True
        if self._shared:
            self._of.add(of)
        head = b'{"job":%b,"attempt":%d,"fd":%d,"n":%d}\n' % (of.encode(), self._attempt, fd, len(lines))
        self._write(head + lines)

    def _bare_output(self) -> bool:
        found = self._bare.poll(0)  # also a pipe that has ended, since user code closed the descriptor
        if found and any(seen & select.POLLIN for _end, seen in found):
            return True
        # The host counts bytes before it takes them: what does not lie there any more has been counted by now.
        return self._page.raw_bytes() != self._raw_before

    def _write(self, record: bytes) -> None:
        try:
            with self.lock:
                _write_all(self._fd, record)
        except OSError:  # the host is gone, and this worker soon will be
            return


class _Stream(io.BufferedIOBase):
    """What lies under `sys.stdout` or `sys.stderr`: gathers bytes to lines."""

    def __init__(self, fd: int, pipe: LogPipe) -> None:
        super().__init__()
        self.name = "<stdout>" if fd == 1 else "<stderr>"
        self.mode = "wb"
        self._fd = fd
        self._pipe = pipe
        self.pending: dict[str, bytes] = {}  # of each job, what has no end of line yet
        self.text = io.TextIOWrapper(self, encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The bare descriptor: what a subprocess gets, and what faulthandler writes to."""
        return self._fd

    def write(self, data: Any) -> int:
        added = bytes(data)
        if self._pipe.forked:
            _write_all(self._fd, added)
            return len(added)
        with self._pipe.lock:
            of = self._pipe.whose()
            whole, rest = added.rfind(b"\n") + 1, self.pending.pop(of, b"")
            if whole:
                self._pipe.emit(of, self._fd, rest + added[:whole])
                rest = b""
            rest += added[whole:]
            if len(rest) > _LONGEST_LINE:
                self._pipe.emit(of, self._fd, rest + b"\n")
            elif rest:
                self.pending[of] = rest
        return len(added)

    def finish(self, of: str) -> None:
        """Completes a last line of the job `of` that has no end."""
        try:
            self.text.flush()
        except ValueError:  # user code closed it
            pass
        if self.pending:
            with self._pipe.lock:
                if rest := self.pending.pop(of, b""):
                    self._pipe.emit(of, self._fd, rest + b"\n")


def take_over(fd: int, page: StatusPage, bare: Iterable[int]) -> LogPipe:
    """Puts our streams in place of Python's, and logging on top of them."""
    pipe = LogPipe(fd, page, bare)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = _Stream(number, pipe)
        pipe.streams.append(stream)
        setattr(sys, name, stream.text)
        setattr(sys, f"__{name}__", stream.text)
    os.register_at_fork(after_in_child=lambda: setattr(pipe, "forked", True))
    _log_from(os.environ.get("LOG_LEVEL", ""))
    return pipe


def flush() -> None:
    """Writes out what is left, before the worker leaves."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or replaced by user code
            continue


# ── logging ──────────────────────────────────────────────────────────────────────────────────────

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Line(logging.Formatter):
    """Level, logger and message, then the fields given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {key}={_short(value)}" for key, value in vars(record).items() if key not in _OF_EVERY_RECORD)
        first, *rest = super().format(record).split("\n")
        return "\n".join([first + extra, *rest])


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 — logging never raises into the program that logs
            self.handleError(record)


def _log_from(level: str) -> None:
    """Logging from `level` on (INFO if it is none), until user code configures logging itself.

    The handler is the one of last resort, not one of the root logger: `logging.basicConfig(…)` in user code
    does nothing where the root logger already has a handler.
    """
    number = logging.getLevelName(level.upper()) if not level.isdigit() else int(level)
    handler = _ToStandardError()
    handler.setFormatter(_Line("%(levelname)s %(name)s: %(message)s"))
    logging.lastResort = handler
    logging.getLogger().setLevel(number if isinstance(number, int) else logging.INFO)


def _short(value: Any) -> str:
    try:
        return json.dumps(value, default=repr, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
