"""When things are done: slots of equal length, counted from midnight UTC of the first of January 1970."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone

logger = logging.getLogger(__name__)

SCHEDULES = {
    "disk": int(os.getenv("DISK_SECONDS", "3600")),
    "load": int(os.getenv("LOAD_SECONDS", "60")),
}
"""Name → seconds between two runs."""

_runs: dict[str, deque[str]] = {name: deque(maxlen=5) for name in SCHEDULES}


def runs_of(name: str) -> deque[str]:
    """The ids of the last jobs of a schedule."""
    return _runs[name]


def slot_of(moment: datetime, every: int, later: int = 0) -> datetime:
    """When the slot that holds a moment began, or that many slots later."""
    number = int(moment.timestamp()) // every + later
    return datetime.fromtimestamp(number * every, timezone.utc)


async def keep(name: str, run: Callable[[str, datetime], Awaitable[object]]) -> None:
    """Run a schedule until cancelled. A run that fails is logged and costs the next one nothing."""
    while True:
        coming = slot_of(datetime.now(timezone.utc), SCHEDULES[name], 1)
        await asyncio.sleep(max(0.0, (coming - datetime.now(timezone.utc)) / timedelta(seconds=1)))
        try:
            await run(name, coming)
        except Exception:
            logger.exception("the run of %s at %s failed", name, coming.isoformat())
