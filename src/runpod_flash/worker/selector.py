"""The selector of a worker's loop, which reads what the engine sends in the middle of waiting for it."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable


class Selector(selectors.DefaultSelector):
    """Descriptors that were added are read before `select` returns; what it returns is for the loop.

    So a call begins in the turn of the loop in which it came: its task is there when the turn begins. Read by one of
    the turn's callbacks, it would begin with the next, and each turn asks the system about all descriptors.
    """

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
