"""The body of a request between the client that sends it and the worker that reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from runpod_flash.wire import kinds

HOLD_BACK: Final = kinds.INLINE_LIMIT
"""Bytes that may lie here before the client has to wait."""


class Upload:
    """Pieces that have come and were not passed on."""

    __slots__ = ("_pieces", "_room", "_said_end", "complete", "received", "waiting")

    def __init__(self) -> None:
        self.received = 0
        self.waiting = 0  # bytes of the pieces
        self.complete = False
        self._pieces: deque[bytes] = deque()
        self._room = -1  # bytes for which its worker has room; -1: there is none yet
        self._said_end = False

    def add(self, piece: bytes) -> None:
        """A piece has come."""
        self._pieces.append(piece)
        self.waiting += len(piece)

    def take(self, most: int) -> bytes:
        """The first bytes of what waits."""
        taken: list[bytes] = []
        while self._pieces and most:
            piece = self._pieces.popleft()
            if len(piece) > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            most -= len(piece)
            taken.append(piece)
        self.waiting -= sum(map(len, taken))
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def allow(self, size: int) -> None:
        """The worker has room for more."""
        self._room = max(0, self._room) + size

    def pass_on(self, send: Callable[[bytes, bool], None]) -> None:
        """Sends what there is room for; of each piece it is said whether it is the last, which may be empty."""
        while self._pieces and self._room > 0:
            piece = self.take(min(self._room, kinds.INLINE_LIMIT))
            self._room -= len(piece)
            self._said_end = self.complete and not self._pieces
            send(piece, self._said_end)
        if self.complete and not self._pieces and not self._said_end and self._room >= 0:
            self._said_end = True
            send(b"", True)

    def drop(self) -> None:
        """Nobody wants what waits."""
        self._pieces.clear()
        self.waiting = 0
