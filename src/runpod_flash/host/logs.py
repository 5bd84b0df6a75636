"""What one worker prints: attributed to attempts, kept in files, sent on while it is printed.

Two ways lead here. Python-level output comes by the log pipe, each record with its job. Bare output (C
code, subprocesses) comes by the pipes of descriptors 1 and 2 and belongs to the call that the status page
names; bytes that are read between two calls wait a moment for the end record of the call that they may
have come from.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runpod_flash.host.lines import End, Lines, LogPipe, Output
from runpod_flash.host.log_files import SegmentFile
from runpod_flash.wire import logfile
from runpod_flash.wire.messages import Log, Span
from runpod_flash.wire.status_page import Status, StatusPage

RATE_LIMIT = 5_000_000  # bytes a second that one worker may print
_BURST = 2 * RATE_LIMIT
_LAST_LINES = 20
_LAST_LINE_LENGTH = 500
_CLAIM_S = 0.25
_READ = 256 * 1024
_REST_READS = 16  # of 256 KiB: more than a pipe holds

Call = tuple[str, int]
"""An attempt: job and number."""
NO_CALL: Call = ("", 0)


@dataclass(slots=True)
class _Printed:
    """An attempt that printed: the pieces of files (segment, start, end, lines) that hold it."""

    pieces: list[tuple[str, int, int, int]] = field(default_factory=list)
    lines: int = 0
    cut: bool = False

    def add(self, segment: str, start: int, end: int, count: int) -> None:
        if self.pieces and self.pieces[-1][0] == segment:
            _, start, _, before = self.pieces.pop()
            count += before
        self.pieces.append((segment, start, end, count))


class WorkerLog:
    """All output of one worker. `pipes`: read ends of descriptors 1 and 2 and of the log pipe."""

    def __init__(
        self,
        home: Path,
        worker: str,
        page: StatusPage,
        pipes: tuple[int, int, int],
        send: Callable[[Log], None],
    ) -> None:
        self.ended: set[int] = set()  # pipes that nobody holds open any more
        self._worker = worker
        self._page = page
        self._raw_pipe = {1: pipes[0], 2: pipes[1]}
        self._log_pipe = pipes[2]
        self._send = send
        self._file = SegmentFile(home, worker)
        self._records = LogPipe()
        self._lines: dict[tuple[Call, int], Lines] = {}  # of the log pipe
        self._raw = {1: Lines(), 2: Lines()}
        self._raw_call = NO_CALL  # whose output is in `_raw`
        self._unclaimed: list[tuple[float, int, bytes]] = []  # bare output that was read between calls
        self._printed: dict[Call, _Printed] = {}
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._credit, self._credited = float(_BURST), time.monotonic()
        self._cutting = self._unwritable = False

    def read_log(self) -> list[Span]:
        """Takes a piece of the log pipe; the spans of attempts that it ended."""
        data = self._read(self._log_pipe)
        return self._take_records(data) if data else []

    def read_raw(self, fd: int) -> None:
        """Takes a piece of descriptor 1 or 2."""
        if data := self._read_bare(self._raw_pipe[fd]):
            call = call_of(self._page.read())
            if call == NO_CALL:
                self._unclaimed.append((time.monotonic(), fd, data))
            else:
                self._take_raw(call, fd, data)

    def settle(self) -> None:
        """Now and then: bare output that no call has claimed belongs to none."""
        if self._unclaimed and self._unclaimed[0][0] < time.monotonic() - _CLAIM_S:
            self._claim(NO_CALL)

    def finish(self, call: Call) -> list[Span]:
        """The worker died in `call` (or NO_CALL): reads the rest; the spans of what had no end."""
        spans: list[Span] = []
        for _ in range(_REST_READS):
            if data := self._read(self._log_pipe):
                spans += self._take_records(data)
        self._take_rest(call)
        for open_call in list(dict.fromkeys([*self._printed, *(key[0] for key in self._lines)])):
            spans += self._end(open_call)
        self._file.close()
        return spans

    @property
    def last_lines(self) -> list[str]:
        """The end of all that it printed."""
        return list(self._last)

    # ── attribution ──────────────────────────────────────────────────────────────────────────────

    def _take_records(self, data: bytes) -> list[Span]:
        spans: list[Span] = []
        batch: list[bytes] = []
        of = (NO_CALL, 1)
        for event in self._records.feed(data):
            if isinstance(event, End):
                target, piece = (NO_CALL, 0), b""
            elif isinstance(event, Output):
                target, piece = ((event.job, event.attempt), event.fd), event.data
            else:
                target, piece = (NO_CALL, 1), event.data
            if target != of:
                self._take(*of, b"".join(batch))
                batch, of = [], target
            batch.append(piece)
            if isinstance(event, End):
                spans += self._end((event.job, event.attempt), alone=event.alone)
        self._take(*of, b"".join(batch))
        return spans

    def _take(self, call: Call, fd: int, data: bytes) -> None:
        if not data:
            return
        lines = self._lines.get((call, fd))
        if lines is None:
            lines = self._lines[call, fd] = Lines()
        self._keep(call, fd, lines.feed(data))

    def _take_raw(self, call: Call, fd: int, data: bytes) -> None:
        if self._unclaimed:
            self._claim(NO_CALL)
        if call != self._raw_call:
            self._finish_raw()
            self._raw_call = call
        self._keep(call, fd, self._raw[fd].feed(data))

    def _claim(self, call: Call) -> None:
        unclaimed, self._unclaimed = self._unclaimed, []
        for _, fd, data in unclaimed:
            self._take_raw(call, fd, data)

    def _finish_raw(self) -> None:
        for fd, lines in self._raw.items():
            self._keep(self._raw_call, fd, lines.finish())

    def _take_rest(self, call: Call) -> None:
        """All bare output that is there by now is `call`'s."""
        self._claim(call)
        for fd, pipe in self._raw_pipe.items():
            for _ in range(_REST_READS):
                if not (data := self._read_bare(pipe)):
                    break
                self._take_raw(call, fd, data)
        if self._raw_call == call:
            self._finish_raw()

    def _end(self, call: Call, *, alone: bool = True) -> list[Span]:
        """Everything of `call` is complete: lines without an end, then where all of it lies."""
        if alone:
            self._take_rest(call)
        for fd in (1, 2):
            if lines := self._lines.pop((call, fd), None):
                self._keep(call, fd, lines.finish())
        printed = self._printed.pop(call, None) or _Printed()
        if call == NO_CALL:
            return []
        pieces = printed.pieces or [("", 0, 0, printed.lines)]
        return [
            Span(
                job=call[0], attempt=call[1], worker=self._worker, segment=segment,
                start=start, length=end - start, lines=count, cut=printed.cut,
            )
            for segment, start, end, count in pieces
        ]  # fmt: skip

    # ── keeping and sending ──────────────────────────────────────────────────────────────────────

    def _keep(self, call: Call, fd: int, data: bytes) -> None:
        """Whole lines: into the file, and on to whoever follows."""
        if not data:
            return
        printed = self._printed.setdefault(call, _Printed())
        if not self._may_print(len(data)):
            printed.cut = True
            if not self._cutting:
                self._cutting = True
                self._put(call, printed, 2, f"… output cut: more than {RATE_LIMIT // 1_000_000} MB a second\n")
            return
        self._cutting = False
        self._put(call, printed, fd, data.decode("utf-8", "replace"))

    def _put(self, call: Call, printed: _Printed, fd: int, text: str) -> None:
        now = time.time_ns() // 1_000_000
        lines = text.removesuffix("\n").split("\n")
        try:
            record = logfile.encode(now, *call, fd, text.encode())
            printed.add(*self._file.append(record), len(lines))
            self._unwritable = False
        except OSError as error:
            printed.cut = True
            if not self._unwritable:
                self._unwritable = True
                lines.append(f"… output is not kept from here: {error.strerror}")
        self._last.extend(line[:_LAST_LINE_LENGTH] for line in lines[-_LAST_LINES:])
        if call != NO_CALL:
            job, attempt = call
            self._send(
                Log(
                    job=job,
                    attempt=attempt,
                    worker=self._worker,
                    fd=fd,
                    at_ms=now,
                    n=printed.lines,
                    lines=lines,
                )
            )
        printed.lines += len(lines)

    def _read_bare(self, pipe: int) -> bytes:
        """The same, counted before it is taken: a worker whose call ends meanwhile looks there, then at the count."""
        there = min(_waiting(pipe), _READ)
        self._page.add_raw_bytes(there)
        data = self._read(pipe, there or 1)
        if data and not there:
            self._page.add_raw_bytes(len(data))
        return data

    def _read(self, pipe: int, size: int = _READ) -> bytes:
        """What is there, perhaps nothing; `ended` gets a pipe that is at its end."""
        try:
            data = os.read(pipe, size)
        except BlockingIOError:
            return b""
        if not data:
            self.ended.add(pipe)
        return data

    def _may_print(self, size: int) -> bool:
        now = time.monotonic()
        self._credit = min(_BURST, self._credit + (now - self._credited) * RATE_LIMIT)
        self._credited = now
        if self._credit < size:
            return False
        self._credit -= size
        return True


def _waiting(pipe: int) -> int:
    """How many bytes lie in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def call_of(status: Status) -> Call:
    """The attempt that was running when a status page was read."""
    return (status.job, status.attempt) if status.running else NO_CALL
