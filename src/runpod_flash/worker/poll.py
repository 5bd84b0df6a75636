"""Which of the descriptors that a worker reads have something to read."""

from __future__ import annotations

import contextlib
import select
from typing import Protocol


class Descriptors(Protocol):
    """A set of descriptors that somebody waits for."""

    def add(self, fd: int, /) -> None:
        """From now on it is waited for."""

    def remove(self, fd: int, /) -> None:
        """It is about to be closed."""


class Poll:
    """Which descriptors can be read: epoll, which two threads may ask while a third thing changes the set."""

    def __init__(self) -> None:
        self._fds: set[int] = set()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None

    def add(self, fd: int) -> None:
        """From now on it is looked at."""
        self._fds.add(fd)
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """It is not looked at any more; it may be closed already."""
        self._fds.discard(fd)
        if self._epoll is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def fileno(self) -> int | None:
        """What can be read when one of them can; None where there is no epoll."""
        return self._epoll.fileno() if self._epoll is not None else None

    def wait(self, seconds: float = -1) -> list[int]:
        """Those that can be read, as soon as there are any; none after so many seconds. -1: however long it takes."""
        return self._ask(seconds)

    def ready(self) -> list[int]:
        """Those that can be read now."""
        return self._ask(0)

    def _ask(self, seconds: float) -> list[int]:
        if self._epoll is not None:
            return [fd for fd, _event in self._epoll.poll(seconds)]
        # Elsewhere a set cannot change while somebody waits for it, so nobody waits long.
        poll = select.poll()
        for fd in list(self._fds):
            poll.register(fd, select.POLLIN)
        return [fd for fd, _event in poll.poll(min(250, int(seconds * 1000)) if seconds >= 0 else 250)]
