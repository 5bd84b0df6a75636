"""When calls have to be over, of all that run at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from runpod_flash.worker.call import Call


class Deadlines:
    """One timer for all: nearly every call ends long before its time, and one of its own would cost it more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Call], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._of: dict[Call, float] = {}  # in the loop's time
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf

    def set(self, call: Call) -> None:
        """Its time begins to run, if it is limited."""
        if call.timeout_ms:
            self._of[call] = until = time.monotonic() + call.timeout_ms / 1000
            if until < self._wakes_at:
                self._wake_at(until)

    def drop(self, call: Call) -> None:
        """It is over."""
        self._of.pop(call, None)

    def _wake_at(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._wakes_at = self._loop.call_at(until, self._look), until

    def _look(self) -> None:
        self._timer, self._wakes_at, now = None, math.inf, self._loop.time()
        for call in [one for one, until in self._of.items() if until <= now]:
            del self._of[call]
            self._expire(call)
        if self._of:
            self._wake_at(min(self._of.values()))
