"""Forgets jobs that were kept long enough, and removes the files that nobody needs any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.wire import blobs

logger = logging.getLogger(__name__)

_FIRST_SWEEP_S: Final = 1.0
_SWEEP_S: Final = 60.0
_NEXT_SLICE_S: Final = 0.02
_SLICE: Final = 200
_MOST: Final = 5000
_STRAY_AFTER_S: Final = 3600.0


class Retention:
    """Sweeps now and then, a slice at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._blobs = state.settings.home / "blobs"
        self._next: asyncio.TimerHandle | None = None
        # Links of those who read the files just now, and what is kept as long as there is one.
        self._holders: set[Link] = set()
        self._held: list[str] = []

    def start(self) -> None:
        """Begins to sweep."""
        self._again_in(_FIRST_SWEEP_S)
        self._look_for_strays()

    def hold(self, link: Link) -> None:
        """Keeps every file until the link is gone."""
        self._holders.add(link)

    def release(self, link: Link) -> None:
        """The link is gone; with the last that held them, the files go that nobody needs by now."""
        self._holders.discard(link)
        if self._held and not self._holders:
            held, self._held = self._held, []
            self._remove(held)

    def _again_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._state.call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Looks in the reading thread, which takes as long as the table is large, and forgets in slices."""
        self._again_in(_SWEEP_S)  # whatever happens: a full disk needs it most
        now = self._state.clock.wall_ms()
        work = partial(self._state.store.outdated, now, _MOST)
        self._state.turn.in_thread(work, lambda jobs, error: self._found(jobs, error, now))

    def _found(self, jobs: list[str] | None, error: Exception | None, at_ms: int) -> None:
        _tell_failure(None, error)
        self._state.call_later(0, self._forget, jobs or [], at_ms, len(jobs or ()) == _MOST)

    def forget(self, jobs: Sequence[str], at_ms: int) -> None:
        """Forgets those of the jobs that had ended by then, and removes what only they needed."""
        named = self._state.turn.write().forget(jobs, at_ms)
        self.remove_after_turn(named)

    def _forget(self, jobs: list[str], at_ms: int, more: bool) -> None:
        self.forget(jobs[:_SLICE], at_ms)
        if rest := jobs[_SLICE:]:
            self._state.call_later(_NEXT_SLICE_S, self._forget, rest, at_ms, more)
        elif more:
            self._again_in(_NEXT_SLICE_S)

    def remove_after_turn(self, names: Sequence[str]) -> None:
        """Removes those of the files that no job needs when this turn is committed."""
        self._state.turn.after(lambda: self._remove(names))

    def _remove(self, names: Sequence[str]) -> None:
        """Removes those of the files that no job needs.

        Asked only now, and in the loop: a call that named one of them may have come with the turn that forgot the
        last job before it, and none can come until the files are gone. Calls that name one later are refused.
        """
        if self._holders:
            self._held += names
            return
        try:
            gone = [blobs.retire(self._blobs, name) for name in self._state.store.unneeded(names)]
        except OSError as error:  # they are on record no more: they will be found as strays
            logger.warning("a file with a large value cannot be removed: %s", error)
            return
        if gone:  # to free the space of a large file takes longer than the loop may wait
            self._state.turn.in_thread(partial(_unlink, gone), _tell_failure)

    # ── files of nobody ───────────────────────────────────────────────────────────────────────────

    def _look_for_strays(self) -> None:
        """Files that were written for a SUBMIT or DONE that never came, and what was only half written."""
        self._state.call_later(_STRAY_AFTER_S, self._look_for_strays)
        self._state.turn.in_thread(self._strays, self._found_strays)

    def _strays(self) -> list[Path]:
        """Runs in the reading thread. A file may be written long before the frame that names it is committed."""
        old = time.time() - _STRAY_AFTER_S
        found = sorted(path for path in self._blobs.glob("*/*") if _modified(path) < old)
        known = {row["id"] for row in self._state.store.read("SELECT id FROM blobs")} if found else set()
        return [path for path in found if path.name not in known]

    def _found_strays(self, found: list[Path] | None, error: Exception | None) -> None:
        _tell_failure(None, error)
        self._state.call_later(0, self._remove_strays, found or [])

    def _remove_strays(self, found: list[Path]) -> None:
        old = time.time() - _STRAY_AFTER_S
        some = [path for path in found[:_SLICE] if _modified(path) < old]  # not written anew meanwhile
        self._remove([path.name for path in some if blobs.is_id(path.name)])
        for path in some:
            if not blobs.is_id(path.name):
                path.unlink(missing_ok=True)
        if rest := found[_SLICE:]:
            self._state.call_later(_NEXT_SLICE_S, self._remove_strays, rest)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _tell_failure(_result: object, error: Exception | None) -> None:
    if error is not None:
        logger.warning("what is outdated could not be removed: %s", error)
