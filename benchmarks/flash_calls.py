"""Warm, durable no-op calls of ours: one after another, and a thousand in flight.

The whole trio of a sequential figure (this program, the engine, its host and worker) shares one core with
the yardstick: everything inherits the affinity of whoever started it. The no-op is the peers', a plain
function that returns a small dict; a coroutine function costs the worker a turn of its event loop as well.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks import laps, memory, nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, JobOutput, remote

Noop = Callable[[int], Awaitable[JobOutput[dict[str, int]]]]
alone = CpuLiveServerless(name="alone", workersMax=1)


@remote(alone)
def noop(n: int) -> dict[str, int]:
    """Does nothing, on the only worker."""
    return {"n": n}


@remote(alone)
async def async_noop(n: int) -> dict[str, int]:
    """Does nothing, in the worker's event loop."""
    return {"n": n}


@remote(CpuLiveServerless(name="two", workersMin=2, workersMax=2))
def shared_noop(n: int) -> dict[str, int]:
    """Does nothing, on one of two workers."""
    return {"n": n}


@remote(CpuLiveLoadBalancer(name="direct", workersMax=1))
async def direct_noop(n: int) -> dict[str, int]:
    """Does nothing, and is on no record."""
    return {"n": n}


SEQUENTIAL = (
    # title, function, durability, goal
    ("awaited no-op", "noop", "process", Goal(40, of="ratio")),
    ("awaited no-op, `async def`", "async_noop", "process", None),
    ("awaited no-op, durability power", "noop", "power", None),
    ("awaited no-op, load-balanced", "direct_noop", "process", Goal(20, of="ratio")),
)


PROMISE = (
    "A call is on record before its worker has it, its result before its caller has it, and both survive the death of "
    "every process; a power cut may cost the latest, unless durability is power. A call whose worker dies is run "
    "again, but not after the third loss. Packages can differ by function; not used here."
)


def sequential_rows(run: Run) -> Rows:
    """One after another, on one core."""
    for title, function, durability, goal in SEQUENTIAL:
        found, trip = run.beside(partial(
            nursery.run, __name__, function, run.calls(3000),
            core=run.core, variables={"FLASH_DURABILITY": durability},
        ))  # fmt: skip
        yield Row("Flash", f"{title}, p50", found["p50"], "µs", trip, goal, f"best {found['best']:.0f} µs")
        yield Row("Flash", f"{title}, p99", found["p99"], "µs", trip)
    yield Row("Flash", "Flash", note=PROMISE, about=True)


def in_flight_rows(run: Run) -> Rows:
    """A thousand in flight on two workers, on all cores."""
    for durability in ("process", "power"):
        found, trip = run.beside(partial(
            nursery.run, __name__, "shared_noop", run.calls(60_000), variables={"FLASH_DURABILITY": durability},
        ))  # fmt: skip
        goal = Goal(15_000, at_least=True) if durability == "process" else None
        thirds = f"thirds {found['slowest']:,.0f} to {found['fastest']:,.0f}"
        title = "1000 in flight, 2 workers" + (", durability power" if durability == "power" else "")
        yield Row("Flash", title, found["rate"], "calls/s", trip, goal, thirds)
        if durability == "process":
            yield Row("Flash", "idle: engine, host, 2 workers and the caller, PSS", found["idle_mb"], "MB")


async def _sequential(call: Noop, calls: int) -> laps.Sequential:
    found = await laps.sequential_async(call, calls)
    job = await call(7)
    assert job.unwrap() == {"n": 7}
    return found


async def _direct(call: Callable[[int], Awaitable[dict[str, int]]], calls: int) -> laps.Sequential:
    found = await laps.sequential_async(call, calls)
    assert await call(7) == {"n": 7}
    return found


async def _in_flight(call: Noop, calls: int) -> dict[str, float]:
    await asyncio.gather(*(call(n) for n in range(4)))
    idle_mb = await asyncio.to_thread(memory.idle_mb)
    found = await laps.in_flight_async(call, calls)
    jobs = await asyncio.gather(*(call(n) for n in range(laps.LANES)))
    assert [job.unwrap() for job in jobs] == [{"n": n} for n in range(laps.LANES)]
    assert len({job.worker_id for job in jobs}) == 2, "one of the two workers did nothing"
    return {"idle_mb": idle_mb, "rate": found["rate"], "slowest": found["slowest"], "fastest": found["fastest"]}


if __name__ == "__main__":
    function, number = sys.argv[1:]
    measure = {"shared_noop": _in_flight, "direct_noop": _direct}.get(function, _sequential)
    print(json.dumps(asyncio.run(measure(globals()[function], int(number)))))
