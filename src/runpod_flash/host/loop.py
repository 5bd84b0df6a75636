"""File descriptors and timers on one thread; what a callback raises is noted and ends nothing."""

from __future__ import annotations

import heapq
import selectors
import time
import traceback
from collections.abc import Callable
from itertools import count

Callback = Callable[[], object]


class Timer:
    """A call that will be made; `cancel()` before that and it will not."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Idempotent, also after the call."""
        self.callback = None


class Loop:
    """`selectors` with a callback for each direction, and a heap of timers."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._selector = selectors.DefaultSelector()
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._stopped = False

    def watch(self, fd: int, callback: Callback) -> None:
        """Calls back whenever `fd` can be read (or has ended)."""
        self._readers[fd] = callback
        self._register(fd)

    def watch_writable(self, fd: int, callback: Callback) -> None:
        """Calls back whenever `fd` can be written."""
        self._writers[fd] = callback
        self._register(fd)

    def unwatch_writable(self, fd: int) -> None:
        """Idempotent."""
        if self._writers.pop(fd, None):
            self._register(fd)

    def unwatch(self, fd: int) -> None:
        """Forgets `fd`; to be called before it is closed. Idempotent."""
        readers, writers = self._readers.pop(fd, None), self._writers.pop(fd, None)
        if readers or writers:
            self._register(fd)

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Calls back once, that much later."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.due, next(self._order), timer))
        return timer

    def stop(self) -> None:
        """Ends `run` after the callback that is being made."""
        self._stopped = True

    def run(self) -> None:
        """Until `stop`."""
        self._stopped = False
        while not self._stopped:
            self.turn()

    def turn(self, longest: float | None = None) -> None:
        """Waits for something to do and does it."""
        for key, events in self._selector.select(self._timeout(longest)):
            # A callback may have closed the descriptor of a later event, and another may have opened it anew;
            # whoever is registered by then reads without blocking, so a needless call does no harm.
            if events & selectors.EVENT_READ:
                self._call(self._readers.get(key.fd))
            if events & selectors.EVENT_WRITE:
                self._call(self._writers.get(key.fd))
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            self._call(callback)

    def _timeout(self, longest: float | None) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return longest
        wait = max(0.0, self._timers[0][0] - time.monotonic())
        return wait if longest is None else min(wait, longest)

    def _register(self, fd: int) -> None:
        events = (selectors.EVENT_READ if fd in self._readers else 0) | (
            selectors.EVENT_WRITE if fd in self._writers else 0
        )
        known = self._selector.get_map().get(fd)
        if known is None:
            if events:
                self._selector.register(fd, events)
        elif events:
            self._selector.modify(fd, events)
        else:
            self._selector.unregister(fd)

    def _call(self, callback: Callback | None) -> None:
        if callback is None:
            return
        try:
            callback()
        except Exception:  # noqa: BLE001  # workers must outlive our mistakes
            self._note(f"a bug of ours, carried on:\n{traceback.format_exc().rstrip()}")
