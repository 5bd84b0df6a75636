"""What a generator yields, on its way out: sent at once, and kept until whoever reads it has it.

A generator is ahead of its reader by so many items or bytes and no more; then it rests until the engine says TAKEN.
The thread that runs it puts items in; TAKEN may be read by any thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from runpod_flash.errors import EncodingError
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Buffer
from runpod_flash.worker import results
from runpod_flash.worker.results import Store

KEPT_ITEMS: Final = 1_000_000
"""Items of one attempt that are kept for readers to come; a stream that is read as it comes has no such limit."""
KEPT_BYTES: Final = 1 << 30
"""Bytes of all of them."""


class Items:
    """The items of one call. `of` are the first fields of their heads, `kept` whether they wait for readers to come."""

    def __init__(
        self,
        store: Store,
        send: Callable[[bytes], None],
        of: str = "",
        *,
        sid: int = 0,
        kept: bool = False,
        as_json: bool = False,
    ) -> None:
        self.count = 0
        self.kept = kept
        self._completed = results.completed_as_json if as_json else results.completed
        self.step = "user"
        """What is being done: running the user's code, or making an item ready to travel."""
        self.pending: deque[tuple[int, bytes]] = deque()  # size and frame of each that is not taken yet
        self._lock = threading.Lock()
        self._store = store
        self._send = send
        self._of = of
        self._sid = sid
        self._taken = 0
        self._ahead_bytes = 0
        self._all_bytes = 0
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def full(self) -> bool:
        """Whether the generator has to rest."""
        return len(self.pending) >= kinds.STREAM_ITEMS or self._ahead_bytes >= kinds.WINDOW

    def put(self, value: Any) -> None:
        """Sends an item, whether there is room or not; EncodingError if it cannot travel."""
        self.step = "encode"
        result = self._completed(value, self._store)
        size = sum(map(_size, result.parts)) + sum(moved[2] for moved in result.moved)
        self._all_bytes += size
        if self.kept and (self.count >= KEPT_ITEMS or self._all_bytes > KEPT_BYTES):
            raise _too_much(self.count)
        more = {name: value for name, value in (("blobs", result.moved), ("defs", result.defs)) if value}
        rest = f",{json.dumps(more)[1:]}" if more else "}"
        head = f'{{{self._of}"n":{self.count}{rest}'.encode()
        chunk = frame.encode(kinds.CHUNK, head, result.parts, sid=self._sid)
        with self._lock:
            self.count += 1
            self._ahead_bytes += size
            self.pending.append((size, chunk))
        self._send(chunk)
        self.step = "user"

    async def give(self, value: Any) -> None:
        """Sends an item, and rests while the reader is too far behind."""
        self.put(value)
        while self.full:
            await self._rest()

    async def _rest(self) -> None:
        room = asyncio.Event()
        self._waiting = asyncio.get_running_loop(), room
        if self.full:  # still, now that whoever makes room knows whom to wake
            await room.wait()

    def taken(self, upto: int) -> None:
        """Items before that one are done with."""
        with self._lock:
            while self._taken < upto and self.pending:
                self._ahead_bytes -= self.pending.popleft()[0]
                self._taken += 1
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            loop, event = self._waiting
            loop.call_soon_threadsafe(event.set)


def _size(part: Buffer) -> int:
    return memoryview(part).nbytes


def _too_much(count: int) -> EncodingError:
    return EncodingError(
        f"it yielded more than is kept: {count:,} items",
        why=f"of a spawned generator at most {KEPT_ITEMS:,} items and {KEPT_BYTES >> 30} GiB are kept for its readers",
        fix="read it as it comes, with fn.stream(…), which keeps nothing; or yield less",
    )
