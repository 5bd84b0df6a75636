"""Timing of calls, the same for all that are compared. Standard library only: peers run it as well.

Everybody has the same rounds and as long a warm-up, in proportion; the slower ones are only asked for fewer calls.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, TypedDict

ROUNDS = 5
LANES = 1000
"""Calls in flight."""


class Sequential(TypedDict):
    """Microseconds a call, one after another: the middle round's figures."""

    p50: float
    p99: float
    best: float


class InFlight(TypedDict):
    """Calls a second with many in flight: all in all, and the slowest and fastest third."""

    rate: float
    slowest: float
    fastest: float


def sequential(call: Callable[[int], Any], calls: int) -> Sequential:
    """Of a blocking call."""
    for i in range(calls // 2):
        call(i)
    return _middle([[_timed(call, i) for i in range(calls)] for _ in range(ROUNDS)])


async def sequential_async(call: Callable[[int], Awaitable[Any]], calls: int) -> Sequential:
    """Of an awaited call."""
    for i in range(calls // 2):
        await call(i)
    return _middle([await _round(call, calls) for _ in range(ROUNDS)])


async def _round(call: Callable[[int], Awaitable[Any]], calls: int) -> list[float]:
    return [await _timed_async(call, i) for i in range(calls)]  # within the other one it is no syntax of Python 3.10


def in_flight(send: Callable[[int], Any], receive: Callable[[Any], Any], calls: int) -> InFlight:
    """Of calls that are sent and received apart: the oldest is received, then another is sent."""
    clock = Clock(calls)
    waiting = deque(send(n) for n in range(LANES))
    while not clock.over:
        receive(waiting.popleft())
        clock.count()
        waiting.append(send(clock.done))
    return clock.result()


async def in_flight_async(call: Callable[[int], Awaitable[Any]], calls: int) -> InFlight:
    """Of awaited calls: each lane awaits one after another, and all run at once."""
    clock = Clock(calls)

    async def lane() -> None:
        while not clock.over:
            await call(clock.done)
            clock.count()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return clock.result()


class Clock:
    """Counts finished calls; times those between the warm-up and the end, in three parts."""

    def __init__(self, calls: int) -> None:
        self.done = 0
        warm = calls // 2
        self._part = calls // 3
        self._marks = [warm + n * self._part for n in range(4)]
        self._times: list[float] = []

    @property
    def over(self) -> bool:
        return len(self._times) == len(self._marks)

    def count(self, finished: int = 1) -> None:
        """These have just finished."""
        self.done += finished
        while not self.over and self.done >= self._marks[len(self._times)]:
            self._times.append(time.perf_counter())

    def result(self) -> InFlight:
        """Rates, once over."""
        begin, *_, end = self._times
        parts = [self._part / (b - a) for a, b in zip(self._times, self._times[1:], strict=False)]
        return {"rate": 3 * self._part / (end - begin), "slowest": min(parts), "fastest": max(parts)}


def _timed(call: Callable[[int], Any], i: int) -> float:
    begin = time.perf_counter_ns()
    call(i)
    return (time.perf_counter_ns() - begin) / 1e3


async def _timed_async(call: Callable[[int], Awaitable[Any]], i: int) -> float:
    begin = time.perf_counter_ns()
    await call(i)
    return (time.perf_counter_ns() - begin) / 1e3


def _middle(rounds: list[list[float]]) -> Sequential:
    middle = sorted(rounds, key=median)[len(rounds) // 2]
    return {"p50": median(middle), "p99": sorted(middle)[len(middle) * 99 // 100], "best": min(middle)}
