"""The selector of a worker's loop, which reads what the engine sends in the middle of waiting for it."""

from __future__ import annotations

import contextlib
import select
import selectors
import time
from collections.abc import Callable


class ReadingSelector(selectors.DefaultSelector):
    """Descriptors that were added are read before `select` returns; what it returns is for the loop.

    So a call begins in the turn of the loop in which it came: its task is there when the turn begins. Read by one of
    the turn's callbacks, it would begin with the next, and each turn asks the system about all descriptors.
    """

    awaited = False
    """Whether the loop has been given something to do since it began to wait; the loop says so."""

    def __init__(self, read: Callable[[int], None]) -> None:
        super().__init__()
        self._read = read  # must not raise

    def add(self, fd: int) -> None:
        """From now on it is read."""
        self.register(fd, selectors.EVENT_READ, self._read)

    def remove(self, fd: int) -> None:
        """It is about to be closed."""
        with contextlib.suppress(KeyError, ValueError):
            self.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What can be read or written, and is not ours to read."""
        ready = super().select(timeout)
        theirs = []
        for one in ready:
            if one[0].data is self._read:
                self._read(one[0].fd)
            else:
                theirs.append(one)
        return theirs


class _EpollSelector(ReadingSelector):
    """The same where there is epoll: ours stand in a set of their own, in which the loop's set is one more descriptor.

    When it is ours that can be read, as nearly always where functions wait for nothing, that is all there is to ask,
    and nothing is made of it that a loop could read. Nor has the loop a turn for it, unless what was read has left
    something to be done: a call that waits for nothing is over by then.
    """

    def __init__(self, read: Callable[[int], None]) -> None:
        super().__init__(read)
        self._epoll = select.epoll()
        self._theirs: int = self.fileno()
        self._epoll.register(self._theirs, select.EPOLLIN)

    def add(self, fd: int) -> None:
        """From now on it is read."""
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """It is about to be closed."""
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What can be read or written, and is not ours to read."""
        self.awaited = False
        until = None if timeout is None else _now() + timeout
        try:
            while ready := self._epoll.poll(timeout):
                theirs = False
                for fd, _event in ready:
                    if fd == self._theirs:
                        theirs = True
                    else:
                        self._read(fd)
                if theirs:  # not before: what was read may have closed some of them
                    return selectors.DefaultSelector.select(self, 0)
                if self.awaited or (until is not None and (timeout := until - _now()) <= 0):
                    break
            return []
        finally:
            self.awaited = True  # in case that what was read has run the loop, and so come here: the outer one returns

    def close(self) -> None:
        """Both sets."""
        self._epoll.close()
        super().close()


_now = time.monotonic

Selector: type[ReadingSelector] = _EpollSelector if hasattr(select, "epoll") else ReadingSelector
