"""Large arguments and results, and what is encoded for every call.

The worker looks at one byte of every page: a value that was only promised to it would cost nothing. A copy of
100 MB in memory, made right before on the same core, is the yardstick.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel

from benchmarks import footprint, nursery, yardstick
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveServerless, JobOutput, remote
from runpod_flash.payload import codec

SIZE = 100 * yardstick.MEGABYTE
SMALLER = 10 * yardstick.MEGABYTE
PAGE = 4096
alone = CpuLiveServerless(name="alone", workersMax=1)
Call = Callable[[], Awaitable[JobOutput[Any]]]


@dataclass
class Point:
    """A class of the user's own."""

    x: float
    y: float
    name: str


class Order(BaseModel):
    """The same as a model."""

    item: str
    count: int
    tags: list[str]


@remote(alone, dependencies=[f"numpy=={np.__version__}"])
def look(data: Any) -> int:
    """Sees every page of an array."""
    return int(data[::4096].sum())


@remote(alone, dependencies=[f"numpy=={np.__version__}"])
def ones(size: int) -> Any:
    """Gives an array back."""
    import numpy

    return numpy.ones(size, numpy.uint8)


@remote(alone)
def last(data: bytes) -> int:
    """Sees the end of some bytes."""
    return data[-1]


@remote(CpuLiveServerless(name="two", workersMax=2))
def double(n: int) -> int:
    """Next to nothing, a hundred thousand times."""
    return 2 * n


def rows(run: Run) -> Rows:
    """All of them."""
    for name, microseconds in nursery.run(__name__, "encode", run.calls(20_000), core=run.core).items():
        goal = Goal(15) if name.startswith("own") else None
        yield Row("Flash", f"encoding {name}", microseconds, "µs", goal=goal)
    with yardstick.pinned(run.core):
        copy = yardstick.memcpy_ms().typical
    found = nursery.run(__name__, "calls", run.calls(20), core=run.core)
    for name, (milliseconds, cpu) in found.items():
        goal = Goal(round(8 * copy, 1)) if name == "argument: an array of 100 MB" else None
        note = f"{milliseconds / copy:.1f} × memcpy of 100 MB; {cpu:.0f} ms of processor time"
        yield Row("Flash", name, milliseconds, "ms", goal=goal, note=note)
    grown = nursery.run(__name__, "map", run.calls(100_000), limit_s=900)
    note = f"engine {grown['engine']:.1f}, objects of the caller {grown['objects']:.2f}; {grown['rate']:,.0f} calls/s"
    yield Row("Flash", f"map over {run.calls(100_000)} inputs, growth of the caller", grown["client"], "MB", note=note)


def _encode(rounds: int) -> dict[str, float]:
    values = {
        "no argument": ((), {}),
        "an int": ((7,), {}),
        "own dataclass": ((Point(1.0, 2.0, "p"),), {}),
        "own Pydantic model": ((Order(item="i", count=3, tags=["a", "b"]),), {}),
    }
    return {name: _microseconds(value, rounds) for name, value in values.items()}


def _microseconds(value: Any, rounds: int) -> float:
    codec.encode(value)
    found = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        codec.encode(value)
        found.append((time.perf_counter_ns() - begin) / 1e3)
    return median(found)


async def _calls(number: int) -> dict[str, tuple[float, float]]:
    changing = np.ones(SIZE, np.uint8)
    fixed = changing.copy()
    fixed.flags.writeable = False
    large, equal = bytes(SIZE), cycle([bytes(SMALLER), bytes(bytearray(SMALLER))])
    fresh = np.ones(SMALLER, np.uint8)

    def another() -> Awaitable[JobOutput[Any]]:
        fresh[0] += 1
        return look(fresh)

    measured: dict[str, Call] = {
        "argument: an array of 100 MB": lambda: look(changing),
        "argument: the same read-only array of 100 MB": lambda: look(fixed),
        "argument: the same bytes of 100 MB": lambda: last(large),
        "argument: an array of 10 MB, another each time": another,
        "argument: equal bytes of 10 MB": lambda: last(next(equal)),
        "result: an array of 100 MB": lambda: ones(SIZE),
    }
    return {name: await _milliseconds(call, number) for name, call in measured.items()}


async def _milliseconds(call: Call, number: int) -> tuple[float, float]:
    """Of the whole call, and the processor time of all who take part in it."""
    for _ in range(2):
        (await call()).unwrap()
    found = []
    before = _cpu_ms()
    for _ in range(number):
        begin = time.perf_counter_ns()
        job = await call()
        if isinstance(job.output, np.ndarray):
            job.output[::PAGE].sum()
        found.append((time.perf_counter_ns() - begin) / 1e6)
        assert job.error is None, job.error
    return median(found), (_cpu_ms() - before) / number


def _cpu_ms() -> float:
    ours = resource.getrusage(resource.RUSAGE_SELF)
    return (footprint.cpu_s() + ours.ru_utime + ours.ru_stime) * 1e3


async def _map(number: int) -> dict[str, float]:
    """A generator of so many inputs, and what is left of it in memory when a tenth and when all of it is through."""
    begun = 0.0
    marks: list[tuple[float, float, float]] = []
    tracemalloc.start()
    async for n in _numbered(double.map(iter(range(number)))):
        if n in (number // 10, number - 1):
            gc.collect()
            marks.append((_own_mb(), footprint.engine_mb(), tracemalloc.get_traced_memory()[0] / 1e6))
            begun = begun or time.perf_counter()
    seconds = time.perf_counter() - begun
    (client, engine, objects), after = marks
    return {
        "client": after[0] - client,
        "engine": after[1] - engine,
        "objects": after[2] - objects,
        "rate": number * 0.9 / seconds,
    }


async def _numbered(jobs: AsyncIterator[JobOutput[int]]) -> AsyncIterator[int]:
    n = 0
    async for job in jobs:
        assert job.unwrap() == 2 * n
        yield n
        n += 1


def _own_mb() -> float:
    return float(psutil.Process().memory_full_info().uss) / 1e6


if __name__ == "__main__":
    what, count = sys.argv[1], int(sys.argv[2])
    if what == "encode":
        print(json.dumps(_encode(count)))
    else:
        print(json.dumps(asyncio.run(_calls(count) if what == "calls" else _map(count))))
