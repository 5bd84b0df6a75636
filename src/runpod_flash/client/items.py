"""What a call yields: taken in as it comes, and read at the reader's pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final

from runpod_flash.client import transfer
from runpod_flash.client.link import Link
from runpod_flash.client.session import Stream
from runpod_flash.payload import codec
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Chunk, Position, Taken

_TELL_ITEMS: Final = kinds.STREAM_ITEMS // 4
_TELL_BYTES: Final = kinds.WINDOW // 4


class Inbox:
    """The items that have come and are not read yet. `position` goes along whenever the request is sent again."""

    def __init__(self) -> None:
        self.position = Position()
        self._frames: deque[tuple[Chunk, Frame]] = deque()
        self._arrived = asyncio.Event()
        self._told = 0
        self._bytes = 0

    def put(self, frame: Frame) -> None:
        """An item comes. One that came over another connection before is left out."""
        head: Chunk = messages.decode(frame)
        if head.n == self.position.have:
            self.position.have, self.position.attempt = head.n + 1, head.attempt
            self._frames.append((head, frame))
            self._arrived.set()

    async def next(self, end: asyncio.Future[Frame]) -> tuple[Chunk, Frame] | None:
        """The next item; None when the call has ended and all of them were read."""
        while not self._frames:
            if end.done():
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._frames.popleft()

    def wake(self, _end: asyncio.Future[Frame]) -> None:
        """The call has ended."""
        self._arrived.set()

    def used(self, link: Link, stream: Stream, size: int) -> None:
        """The reader is done with an item; now and then the engine hears how many those were."""
        self.position.taken += 1
        self._bytes += size
        if self.position.taken - self._told >= _TELL_ITEMS or self._bytes >= _TELL_BYTES:
            self._told, self._bytes = self.position.taken, 0
            link.tell(stream, Taken(upto=self._told))


async def read(link: Link, stream: Stream, inbox: Inbox, id: str, *, ours: bool = False) -> AsyncGenerator[Any, None]:
    """The items of a request, up to its reply or error. `ours`: files with large items are on no record."""
    end = stream.future
    assert end is not None
    end.add_done_callback(inbox.wake)
    while (arrived := await inbox.next(end)) is not None:
        head, frame = arrived
        size = sum(map(len, frame.parts)) + sum(moved[2] for moved in head.blobs)
        yield await _value(link, id, head, frame, ours=ours)
        del arrived, frame
        inbox.used(link, stream, size)


async def _value(link: Link, id: str, head: Chunk, frame: Frame, *, ours: bool) -> Any:
    parts: Any = frame.parts
    if head.blobs:
        parts = await transfer.gather(link, id, parts, head.blobs)
        if ours:
            transfer.remove(link, [blob for _index, blob, _size in head.blobs])
    if head.defs:
        await transfer.fetch(link, head.defs)
    return codec.decode_value(parts)
