"""Bytes to lines, and the worker's log pipe to bytes: no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

LINE_LIMIT = 64 * 1024
"""Bytes of one line that are kept."""
CUT_MARK = b" [line cut]"
_HEADER_LIMIT = 4096


class Lines:
    """Cuts what arrives into whole lines; a line that is too long loses its end, and says so."""

    __slots__ = ("_pending", "_skipping")

    def __init__(self) -> None:
        self._pending = b""
        self._skipping = False  # the rest of a line that was cut

    def feed(self, data: bytes) -> bytes:
        """The lines that `data` completes, each with its end."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._hold(data)
            return self._overlong()
        whole = self._pending + data[:end]
        if self._skipping:
            whole = whole[whole.index(b"\n") + 1 :]
        self._skipping, self._pending = False, b""
        # Nearly always no line is too long, and then nothing needs to be taken apart.
        if len(whole) > LINE_LIMIT:
            whole = b"".join(_limited(line) for line in whole.splitlines(keepends=True))
        self._hold(data[end:])
        return whole + self._overlong()

    def finish(self) -> bytes:
        """The last line, completed if it has no end."""
        whole, self._pending, self._skipping = self._pending, b"", False
        return whole + b"\n" if whole else b""

    def _hold(self, rest: bytes) -> None:
        if not self._skipping:
            self._pending += rest

    def _overlong(self) -> bytes:
        if len(self._pending) <= LINE_LIMIT:
            return b""
        whole, self._pending, self._skipping = _limited(self._pending + b"\n"), b"", True
        return whole


def _limited(line: bytes) -> bytes:
    return line if len(line) <= LINE_LIMIT + 1 else line[:LINE_LIMIT] + CUT_MARK + b"\n"


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what one attempt printed at Python level."""

    job: str
    attempt: int
    fd: int
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """An attempt that printed has ended. `alone`: bare output up to here was its, for nothing else ran."""

    job: str
    attempt: int
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that is no record: a program wrote to a descriptor that it found open."""

    data: bytes


@dataclass(slots=True)
class LogPipe:
    """Takes records apart as they arrive, large ones piece by piece."""

    _pending: bytes = b""
    _open: Output | None = field(default=None)
    _missing: int = 0

    def feed(self, data: bytes) -> Iterator[Output | End | Garbage]:
        """What `data` holds, in order."""
        self._pending += data
        while self._pending:
            if self._open is not None:
                yield self._piece(self._open)
                continue
            line, found, rest = self._pending.partition(b"\n")
            if not found and len(line) < _HEADER_LIMIT:
                return
            self._pending = rest
            event = self._header(line)
            if event is not None:
                yield event

    def _piece(self, head: Output) -> Output:
        piece, self._pending = self._pending[: self._missing], self._pending[self._missing :]
        self._missing -= len(piece)
        if not self._missing:
            self._open = None
        return Output(head.job, head.attempt, head.fd, piece)

    def _header(self, line: bytes) -> End | Garbage | None:
        try:
            record = json.loads(line)
            if "end" in record:
                return End(str(record["end"]), int(record["attempt"]), bool(record.get("alone", True)))
            head = Output(str(record["job"] or ""), int(record["attempt"]), 2 if record["fd"] == 2 else 1, b"")
            length = int(record["n"])
        except (ValueError, TypeError, KeyError):
            return Garbage(line + b"\n")
        if length > 0:
            self._open, self._missing = head, length
        return None
