"""What happens by the passing of time alone: delayed jobs become due, waiting ones expire, running ones overrun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.state import State

_TICK_S: Final = 0.25
_IDLE_TICK_S: Final = 1.0
_FARTHEST_S: Final = 3600.0

Guard = Callable[[Callable[[], None]], object]
"""Runs something, and makes a store that fails meanwhile a restart."""


class Timers:
    """The engine's own alarm clocks."""

    def __init__(
        self,
        state: State,
        loop: asyncio.AbstractEventLoop,
        guarded: Guard,
        *,
        queue: Queue,
        fleet: Fleet,
        hosts: Hosts,
    ) -> None:
        self._state = state
        self._loop = loop
        self._guarded = guarded
        self._queue = queue
        self._fleet = fleet
        self._hosts = hosts
        self._ticking: asyncio.TimerHandle | None = None
        self._waking: asyncio.TimerHandle | None = None
        self._wakes_at = 0  # wall milliseconds
        self._ticked_at = 0.0

    def start(self) -> None:
        """Sets them."""
        self._ticked_at = self._state.clock.monotonic()
        self._tick()
        self.wake_for_next()

    def stop(self) -> None:
        """Stops them."""
        for timer in (self._ticking, self._waking):
            if timer is not None:
                timer.cancel()
        self._waking = None

    def wake_at(self, wall_ms: int) -> None:
        """A delayed job is due then, or a waiting one expires: not later than the alarm that is set."""
        if self._waking is not None:
            if self._wakes_at <= wall_ms:
                return
            self._waking.cancel()
        self._wakes_at = wall_ms
        wait = max(0.0, (wall_ms - self._state.clock.wall_ms()) / 1000)
        self._waking = self._loop.call_later(min(wait + 0.001, _FARTHEST_S), self._wake)

    def wake_for_next(self) -> None:
        """Sets the alarm by what the store says."""
        times = [at for at in self._state.store.next_times() if at is not None]
        if times:
            self.wake_at(min(times))

    def _wake(self) -> None:
        self._waking = None
        self._guarded(self._queue.release_due)
        self._guarded(self._queue.expire)
        self._guarded(self.wake_for_next)

    def _tick(self) -> None:
        """Deadlines of what runs; slowly when nothing does."""
        pause = _TICK_S if self._state.active else _IDLE_TICK_S
        self._ticking = self._loop.call_later(pause, self._tick)
        now = self._state.clock.monotonic()
        late, self._ticked_at = now - self._ticked_at > 2 * _IDLE_TICK_S, now
        self._guarded(self._fleet.check_times)
        if not late:  # else it was we who stood still, and the host's beats wait to be read
            self._guarded(self._hosts.check_lease)
