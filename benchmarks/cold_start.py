"""From no worker to the first result: the environment is built and its zygote up."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from statistics import median

from benchmarks import nursery
from benchmarks.engine import workers
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveServerless, remote


@remote(CpuLiveServerless(name="cold", workersMax=1, idleTimeout=0))
async def noop(n: int) -> dict[str, int]:
    """Does nothing, on a worker that leaves right after."""
    return {"n": n}


def rows(run: Run) -> Rows:
    """Median of ten."""
    found, trip = run.beside(lambda: nursery.run(__name__, "3" if run.quick else "10"))
    spread = f"{min(found):.0f} to {max(found):.0f} ms"
    yield Row(
        "Flash", "cold start, environment built: no worker to result", median(found), "ms", trip, Goal(25), spread
    )


async def _measure(times: int) -> list[float]:
    found = []
    await noop(0)
    for n in range(times):
        await no_workers()
        begin = time.perf_counter_ns()
        job = await noop(n)
        found.append((time.perf_counter_ns() - begin) / 1e6)
        assert job.output == {"n": n}, job.error
    return found


async def no_workers() -> None:
    """Waits until the last worker has left."""
    deadline = time.monotonic() + 20
    while await asyncio.to_thread(workers):
        assert time.monotonic() < deadline, "the idle worker does not leave"
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)  # the last of it: reaped, reported, written down


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(int(sys.argv[1])))))
