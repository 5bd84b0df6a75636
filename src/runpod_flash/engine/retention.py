"""Forgets jobs that were kept long enough, and removes the files that nobody needs any more."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from runpod_flash.engine.state import State
from runpod_flash.wire import blobs

logger = logging.getLogger(__name__)

_FIRST_SWEEP_S: Final = 1.0
_SWEEP_S: Final = 60.0
_NEXT_SLICE_S: Final = 0.05
_STRAY_AFTER_S: Final = 3600.0


class Retention:
    """Sweeps now and then, a slice at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._blobs = state.settings.home / "blobs"

    def start(self) -> None:
        """Begins to sweep; files that were written for a SUBMIT or DONE that never came go once a start."""
        self._state.call_later(_FIRST_SWEEP_S, self._sweep)
        self._state.turn.in_thread(self._remove_strays, _tell_failure)

    def _sweep(self) -> None:
        self._state.call_later(_SWEEP_S, self._sweep)
        self._forget()

    def _forget(self) -> None:
        count, gone = self._state.turn.write().forget_outdated(self._state.clock.wall_ms())
        self._state.turn.after(lambda: self._remove(gone))
        if count:
            self._state.call_later(_NEXT_SLICE_S, self._forget)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            try:
                blobs.remove(self._blobs, name)
            except OSError as error:  # it is on record no more: the next start finds it
                logger.warning("the blob %s cannot be removed: %s", name, error)

    def _remove_strays(self) -> None:
        """Runs in the reading thread. A file may be written long before the frame that names it is committed."""
        old = time.time() - _STRAY_AFTER_S
        found = [path for path in self._blobs.glob("*/*") if _modified(path) < old]
        known = {row["id"] for row in self._state.store.read("SELECT id FROM blobs")} if found else set()
        for path in found:
            if path.name not in known:
                path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _tell_failure(_result: object, error: Exception | None) -> None:
    if error is not None:
        logger.warning("files without a job could not be removed: %s", error)
