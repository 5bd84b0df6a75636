"""What a program of the user's own prints: whose each line is, as far as that can be told.

Workers for Runpod write a JSON object a line, `{"requestId": …, "message": …, "level": …}`, for what they say
themselves; it is put down as a person would write it. Any other line belongs to the job that the program has, if it
has just one, else to none. Which jobs it has, the engine tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from runpod_flash.host.logs import NO_CALL, Call, WorkerLog
from runpod_flash.wire.messages import Span

LINGER_S: Final = 0.3
"""After its end a job may still be spoken of for so long: a worker says that it has finished after it has told us."""
_STARTS: Final = b'{"requestId"'
_FIELDS: Final = {"requestId", "message", "level"}


class ProgramLog(WorkerLog):
    """All output of one such program."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._has: list[Call] = []
        self._had: list[Call] = []  # until `end`

    def has(self, calls: Iterable[Call]) -> list[Call]:
        """The program has these jobs now. Those that it has no more are returned, to be ended in a while."""
        now = list(calls)
        gone = [call for call in self._has if call not in now]
        self._had += gone
        self._has = now
        return gone

    def end(self, calls: Iterable[Call]) -> list[Span]:
        """Where the output of these lies; all of it is here."""
        spans: list[Span] = []
        for fd in (1, 2):
            self.read_raw(fd)
        for call in calls:
            if call in self._had:
                self._had.remove(call)
                spans += self._end(call, alone=False)
        return spans

    def read_raw(self, fd: int) -> None:
        """Takes a piece of descriptor 1 or 2."""
        if data := self._read(self._raw_pipe[fd]):
            self._sort(fd, self._raw[fd].feed(data))

    def _take_rest(self, call: Call) -> None:
        """The program has ended: whatever is there by now."""
        for fd in (1, 2):
            self.read_raw(fd)
            self._sort(fd, self._raw[fd].finish())

    def _sort(self, fd: int, lines: bytes) -> None:
        """Puts whole lines down, neighbours of one job together."""
        batch: list[bytes] = []
        of = NO_CALL
        for line in lines.splitlines(keepends=True):
            call, text = self._whose(line)
            if call != of:
                self._keep(of, fd, b"".join(batch))
                batch, of = [], call
            batch.append(text)
        self._keep(of, fd, b"".join(batch))

    def _whose(self, line: bytes) -> tuple[Call, bytes]:
        if line.startswith(_STARTS) and (said := _spoken(line)) is not None:
            job = said["requestId"]
            call = next((one for one in (*self._has, *self._had) if one[0] == job), None) if job else None
            return call or self._only(), f"{said['level']:<7}| {said['message']}\n".encode(errors="replace")
        return self._only(), line

    def _only(self) -> Call:
        """The one job that it has; the one that has just ended, if it has none."""
        calls = self._has or self._had
        return calls[0] if len(calls) == 1 else NO_CALL


def _spoken(line: bytes) -> dict[str, Any] | None:
    """A line in the form of a worker's logger; None if it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and said.keys() == _FIELDS else None
