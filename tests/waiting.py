"""Waiting for a condition, with a deadline, instead of sleeping."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

PATIENCE_S = 60.0
_LOOK_S = 0.01

Found = TypeVar("Found")


def until(look: Callable[[], Found], seconds: float = PATIENCE_S) -> Found:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(_LOOK_S)
    return found


async def async_until(look: Callable[[], Found], seconds: float = PATIENCE_S) -> Found:
    """The same in an event loop, which goes on meanwhile."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(_LOOK_S)
    return found


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run
