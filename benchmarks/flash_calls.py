"""Warm, durable no-op calls of ours: one after another, and a thousand in flight.

The whole trio of a sequential figure (this program, the engine, its host and worker) shares one core with
the yardstick: everything inherits the affinity of whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import sys

from benchmarks import laps, nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveServerless, remote

LANES = 1000


@remote(CpuLiveServerless(name="alone", workersMax=1))
async def awaited_alone(n: int) -> dict[str, int]:
    """Does nothing, on the only worker."""
    return {"n": n}


@remote(CpuLiveServerless(name="two", workersMin=2, workersMax=2))
async def awaited(n: int) -> dict[str, int]:
    """Does nothing, on one of two workers."""
    return {"n": n}


def sequential_rows(run: Run) -> Rows:
    """One after another, on one core."""
    for durability in ("process", "power"):
        trip = run.round_trip_us()
        found = nursery.run(
            __name__, "sequential", run.calls(3000),
            core=run.core, variables={"FLASH_DURABILITY": durability},
        )  # fmt: skip
        name = f"awaited no-op, durability {durability}"
        goal = Goal(40, of="ratio") if durability == "process" else None
        best = f"best {found['best']:.0f} µs"
        yield Row("Flash", f"{name}, p50", found["p50"], "µs", trip, goal, best)
        yield Row("Flash", f"{name}, p99", found["p99"], "µs", trip)


def in_flight_rows(run: Run) -> Rows:
    """A thousand in flight on two workers, on all cores."""
    for durability in ("process", "power"):
        trip = run.round_trip_us()
        found = nursery.run(__name__, "in_flight", run.calls(60_000), variables={"FLASH_DURABILITY": durability})
        goal = Goal(15_000, at_least=True) if durability == "process" else None
        thirds = f"thirds {found['slowest']:,.0f} to {found['fastest']:,.0f}"
        name = f"1000 in flight, 2 workers, durability {durability}"
        yield Row("Flash", name, found["rate"], "calls/s", trip, goal, thirds)


async def _sequential(calls: int) -> laps.Sequential:
    found = await laps.sequential_async(awaited_alone, warm=300, rounds=3, calls=calls)
    job = await awaited_alone(7)
    assert job.output == {"n": 7}, job.error
    return found


async def _in_flight(calls: int) -> laps.InFlight:
    found = await laps.in_flight(awaited, lanes=LANES, warm=5 * LANES, calls=calls)
    jobs = await asyncio.gather(*(awaited(n) for n in range(LANES)))
    assert [job.unwrap() for job in jobs] == [{"n": n} for n in range(LANES)]
    assert len({job.worker_id for job in jobs}) == 2, "one of the two workers did nothing"
    return found


if __name__ == "__main__":
    measure = {"sequential": _sequential, "in_flight": _in_flight}[sys.argv[1]]
    print(json.dumps(asyncio.run(measure(int(sys.argv[2])))))
