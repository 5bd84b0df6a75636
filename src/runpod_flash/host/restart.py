"""The engine is gone: how it is started again, and how often that is tried."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from runpod_flash.host.processes import Children, Exit, spawn

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
_SETTLED_S = 60.0


def engine_command(home: str) -> list[str]:
    """The command line of an engine; whoever else starts one uses the same."""
    return [sys.executable, "-m", "runpod_flash.daemon", "--home", home]


class EngineStarter:
    """Starts an engine unless one of ours is running or the last one has just failed."""

    def __init__(self, home: str, children: Children, note: Callable[[str], None]) -> None:
        self._home = home
        self._children = children
        self._note = note
        self._running = False
        self._started = 0.0
        self._not_before = 0.0
        self._pause = FIRST_PAUSE_S

    def start(self) -> None:
        """Nobody listens. Idempotent: call it as often as that is seen."""
        now = time.monotonic()
        if self._running or now < self._not_before:
            return
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        try:
            pid = spawn(engine_command(self._home))
        except OSError as error:
            self._note(f"the engine cannot be started: {error}")
            return
        self._running, self._started = True, now
        self._children.watch(pid, self._ended)
        self._note(f"started the engine again, as process {pid}")

    def hold_off(self, seconds: float) -> None:
        """Somebody else is about to start one."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def reached(self) -> None:
        """An engine answered: the next loss starts with a short pause again, if this one lasts."""
        self._started = time.monotonic()

    def lost(self) -> None:
        """The engine that answered is gone."""
        if time.monotonic() - self._started > _SETTLED_S:
            self._pause = FIRST_PAUSE_S

    def _ended(self, end: Exit) -> None:
        # A daemon may put itself into the background; then this is only its first process, and ends with 0.
        self._running = False
        if end.code != 0:
            self._note(f"the engine (process {end.pid}) ended: {end}")
