"""The two directions of a request: its body as it arrives, and the answer as it leaves.

Each way there is a window: so many bytes may be on their way before whoever reads has said that it used some up.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable

from runpod_flash.wire import frame, kinds

Send = Callable[[bytes], None]


class BrokenOff(Exception):
    """The client went away in the middle of what it sent, or was sent."""


class Body:
    """What the client sends."""

    def __init__(self, first: bytes, *, more: bool, sid: int, send: Send) -> None:
        self._pieces = deque([first] if first else ())
        self._complete = not more
        self._broken = False
        self._arrived: asyncio.Event | None = None  # where somebody waits for more
        self._sid, self._send = sid, send
        self._whole: bytes | None = None

    def feed(self, data: bytes, *, last: bool, broken: bool) -> None:
        """More of it is there."""
        if data:
            self._pieces.append(data)
        self._complete = self._complete or last
        self._broken = self._broken or broken
        if self._arrived is not None:
            self._arrived.set()

    def allow(self, size: int) -> None:
        """So much was used up, and as much more may come."""
        if size:
            self._send(frame.encode(kinds.CREDIT, b'{"bytes":%d}' % size, sid=self._sid))

    async def read(self) -> bytes:
        """All of it; the same again when asked again."""
        whole = self._whole
        if whole is None and (whole := self.take_all()) is None:
            whole = self._whole = b"".join([piece async for piece in self.pieces()])
        return whole

    def take_all(self) -> bytes | None:
        """The body, if all of it is there and in one piece; None else, and when it was taken."""
        if not self._complete or self._broken or len(self._pieces) > 1 or self._whole is not None:
            return None
        self._whole = self._pieces.popleft() if self._pieces else b""
        return self._whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """Piece by piece: what is not read is not sent, beyond the window. All at once where it was read before."""
        if self._whole is not None:
            yield self._whole
            return
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                if not self._complete:
                    self.allow(len(piece))
                yield piece
            if self._broken:
                raise BrokenOff
            if self._complete:
                return
            self._arrived = self._arrived or asyncio.Event()
            self._arrived.clear()
            await self._arrived.wait()


class Outflow:
    """What the client is sent, once its answer has begun."""

    def __init__(self, sid: int, send: Send) -> None:
        self._sid, self._send = sid, send
        self._room = kinds.WINDOW
        self._more_room: asyncio.Event | None = None  # where somebody waits for it
        self.begun = False
        self._closed = False

    def begin(self, status: int, headers: list[tuple[str, str]], first: bytes = b"") -> None:
        """Sends the head of an answer whose body follows; `first` is at most a window long."""
        if self._closed:
            raise BrokenOff
        self.begun = True
        self._room -= len(first)
        head = json.dumps({"status": status, "headers": headers, "more": True}).encode()
        self._send(frame.encode(kinds.HTTP_RES, head, (first,), sid=self._sid))

    def allow(self, size: int) -> None:
        """So much was used up."""
        self._room += size
        self._go_on()

    def close(self) -> None:
        """Nothing more can be sent."""
        self._closed = True
        self._go_on()

    async def write(self, data: bytes) -> None:
        """Sends a piece; waits for room in the window."""
        view = memoryview(data)
        while view:
            while self._room <= 0 and not self._closed:
                await self._wait_for_room()
            if self._closed:
                raise BrokenOff
            piece = view[: min(self._room, kinds.INLINE_LIMIT)]
            self._room -= len(piece)
            self._send(frame.encode(kinds.DATA, b"{}", (bytes(piece),), sid=self._sid))
            view = view[len(piece) :]

    async def say(self, kind: str, data: bytes) -> None:
        """Sends a message of a websocket, `text` or `binary`, in as many pieces as the window wants."""
        view = memoryview(data)
        while True:
            while view and self._room <= 0 and not self._closed:
                await self._wait_for_room()
            if self._closed:
                raise BrokenOff
            piece = view[: min(self._room, kinds.INLINE_LIMIT)] if view else view
            view = view[len(piece) :]
            self._room -= len(piece)
            head = b'{"op":"%b","more":%b}' % (kind.encode(), b"true" if view else b"false")
            self._send(frame.encode(kinds.DATA, head, (bytes(piece),), sid=self._sid))
            if not view:
                return

    def say_close(self, code: int, reason: str) -> None:
        """Sends the close of a websocket."""
        if not self._closed:
            head = json.dumps({"op": "close", "code": code, "reason": reason}).encode()
            self._send(frame.encode(kinds.DATA, head, sid=self._sid))

    async def _wait_for_room(self) -> None:
        self._more_room = self._more_room or asyncio.Event()
        self._more_room.clear()
        await self._more_room.wait()

    def _go_on(self) -> None:
        if self._more_room is not None:
            self._more_room.set()
