"""Whether a program that was ready still is: it is asked every few seconds, and replaced once it fails three times."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.relayed.upstream import Unanswered

EVERY_S: Final = 5.0
"""Between two looks, where HEALTH_CHECK_INTERVAL does not say."""
PATIENCE_S: Final = 5.0
"""An answer that takes longer is none."""
MISSES: Final = 3
"""Looks in a row that fail, until the program is given up: one may have come at a bad moment."""

Ask = Callable[[], Awaitable[int]]


class Health:
    """Looks at one program. `ask` gives the status of its answer, or raises Unanswered.

    `is_busy` says whether it has requests under way. A program with one thread answers nothing meanwhile, and is not
    ill for that: each of its requests has a time-out of its own.
    """

    def __init__(self, ask: Ask, is_busy: Callable[[], bool], every_s: float) -> None:
        self._ask = ask
        self._is_busy = is_busy
        self._every_s = every_s
        self._misses = 0

    async def fails(self) -> str:
        """Waits until it is given up, and says what its last answer was."""
        while True:
            await asyncio.sleep(self._every_s)
            wrong = await self._look()
            self._misses = self._misses + 1 if wrong else 0
            if self._misses >= MISSES:
                return f"{wrong}, {self._misses} times in a row"

    async def _look(self) -> str:
        """What is wrong; "" for nothing. 204 is said by one that loads something anew."""
        try:
            status = await asyncio.wait_for(self._ask(), PATIENCE_S)
        except (asyncio.TimeoutError, TimeoutError):
            return "" if self._is_busy() else f"no answer within {PATIENCE_S:g} s"
        except Unanswered as error:
            return f"no answer: {error}"
        return "" if status in {200, 204} else f"status {status}"


def interval(variables: Mapping[str, str]) -> float:
    """Seconds between two looks; 0: it is not looked at. CannotStart for what is no number of seconds."""
    text = variables.get("HEALTH_CHECK_INTERVAL", "")
    try:
        seconds = float(text) if text else EVERY_S
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise CannotStart(f"HEALTH_CHECK_INTERVAL={text!r} is no number of seconds")
    return seconds
