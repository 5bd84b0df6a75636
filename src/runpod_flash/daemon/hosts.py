"""The hosts of an engine: the end of those that it has started is noticed, told, and leaves no zombie."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Final

from runpod_flash.engine.hosts import is_alive
from runpod_flash.providers.base import HostProcess

logger = logging.getLogger(__name__)

_REAP_S: Final = 0.25


def _ignore() -> None:
    """The engine has stopped already, and expects nothing any more."""


class Hosts:
    """The hosts that were started here: their end is noticed and told, and leaves no zombie."""

    def __init__(self) -> None:
        self._watched: dict[HostProcess, Callable[[], None]] = {}
        self._none = asyncio.Event()
        self._adopted = 0

    def watch(self, process: HostProcess, ended: Callable[[], None]) -> None:
        """Calls `ended` when the process is gone."""
        self._watched[process] = ended
        self._none.clear()
        loop = asyncio.get_running_loop()
        if process.fileno() >= 0:
            loop.add_reader(process.fileno(), self._look, process)
        else:
            loop.call_later(_REAP_S, self._look_again, process)

    def tell(self) -> None:
        """Has all of them leave."""
        for process in self._watched:
            self._watched[process] = _ignore  # the engine has stopped already, and expects nothing any more
            process.terminate()

    def adopt(self, pid: int) -> None:
        """Waits at the end for this one as well: an earlier engine has started it, and it has heard GOODBYE."""
        if all(process.pid != pid for process in self._watched):
            self._adopted = pid

    async def end(self, patience_s: float) -> None:
        """Waits until all are gone."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._gone(), patience_s)
        for pid in [*(process.pid for process in self._watched), *([self._adopted] if self._adopted else ())]:
            logger.warning("the host (process %d) is still ending its workers", pid)

    async def _gone(self) -> None:
        if self._watched:
            await self._none.wait()
        if self._adopted:
            await _end_of(self._adopted)
            self._adopted = 0

    def forget(self) -> None:
        """Those that live on are another engine's."""
        for process in list(self._watched):
            self._unwatch(process)

    def _look(self, process: HostProcess) -> None:
        if process in self._watched and process.reap() is not None:
            self._unwatch(process)()

    def _look_again(self, process: HostProcess) -> None:
        self._look(process)
        if process in self._watched:
            asyncio.get_running_loop().call_later(_REAP_S, self._look_again, process)

    def _unwatch(self, process: HostProcess) -> Callable[[], None]:
        if process.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(process.fileno())
        process.close()
        ended = self._watched.pop(process)
        if not self._watched:
            self._none.set()
        return ended


async def _end_of(pid: int) -> None:
    """Waits for the end of a process that is no child of ours."""
    if not hasattr(os, "pidfd_open"):
        while is_alive(pid):  # noqa: ASYNC110  (once in a life, and only where nothing tells)
            await asyncio.sleep(_REAP_S / 10)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return  # it is gone
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
