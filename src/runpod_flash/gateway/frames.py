"""Where the frames of a websocket begin that somebody else sends: between two of them one of ours may stand. Pure."""

from __future__ import annotations

import struct
from typing import Final

_CLOSE: Final = 0x88
_LONGEST_REASON: Final = 120
_LENGTHS: Final = {126: 2, 127: 8}
"""Bytes of a longer length, by what stands in its place."""


class Frames:
    """The frames of one direction, as their bytes go by."""

    def __init__(self) -> None:
        self._head = b""  # of a frame, as far as it has come
        self._left = 0  # bytes of its payload that are yet to come

    @property
    def between(self) -> bool:
        """Whether what has gone by ends with the end of a frame."""
        return not self._head and not self._left

    def feed(self, data: bytes) -> None:
        """More has gone by."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            self._head += data[at : at + 1]
            at += 1
            if (size := _payload(self._head)) is not None:
                self._head, self._left = b"", size


def close_frame(code: int, reason: str) -> bytes:
    """A close, as a server sends it."""
    payload = struct.pack(">H", code) + reason.encode()[:_LONGEST_REASON]
    return bytes((_CLOSE, len(payload))) + payload


def _payload(head: bytes) -> int | None:
    """Bytes that follow a head, its mask included; None where it is not complete."""
    if len(head) < 2:
        return None
    short = head[1] & 0x7F
    more = _LENGTHS.get(short, 0)
    if len(head) < 2 + more:
        return None
    size = int.from_bytes(head[2 : 2 + more], "big") if more else short
    return size + (4 if head[1] & 0x80 else 0)
