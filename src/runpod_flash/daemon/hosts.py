"""The hosts that an engine has started: their end is noticed and told, and leaves no zombie."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

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

    async def end(self, patience_s: float) -> None:
        """Waits until all are gone."""
        if self._watched:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._none.wait(), patience_s)
        for process in self._watched:
            logger.warning("the host (process %d) is still ending its workers", process.pid)

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
