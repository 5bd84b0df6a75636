"""Output for those who read it too slowly: lines are left out, and their number is told.

A job's output must not fill the engine's memory because somebody's terminal is stopped. Only LOG frames are left
out; the lines stay in the log files.
"""

from __future__ import annotations

import msgspec

from runpod_flash.wire import frame, kinds
from runpod_flash.wire.messages import Log

_log = msgspec.json.Decoder(Log)


class SkippedLines:
    """What one slow reader has missed, by stream."""

    def __init__(self) -> None:
        self._first: dict[int, Log] = {}
        self.untold: dict[int, int] = {}
        """How many lines were left out, of whom that has yet to be told."""

    def sift(self, frames: bytes, *, full: bool) -> bytes:
        """`frames` without their LOGs if the reader's buffer is `full`, and with a notice once there is room."""
        out: list[bytes] = []
        for each in frame.FrameReader(len(frames)).feed(frames):
            if full and each.kind == kinds.LOG:
                self._skip(each)
                continue
            if each.sid in self.untold and (each.kind == kinds.LOG or each.flags & kinds.END):
                out.append(self._notice(each.sid))
            out.append(frame.encode(each.kind, each.head, each.parts, sid=each.sid, flags=each.flags))
        return b"".join(out)

    def _skip(self, each: frame.Frame) -> None:
        head = _log.decode(each.head)
        self._first.setdefault(each.sid, head)
        self.untold[each.sid] = self.untold.get(each.sid, 0) + len(head.lines)

    def _notice(self, sid: int) -> bytes:
        head, count = self._first.pop(sid), self.untold.pop(sid)
        head.fd = 2
        head.lines = [f"({count} lines skipped: they came faster than they were read; flash logs {head.job} has all)"]
        return head.encode(sid=sid)
