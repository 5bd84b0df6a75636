"""What a volume adds to a worker's start: the view of the files, from no worker to the first result."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

from benchmarks import nursery
from benchmarks.cold_start import no_workers
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveServerless, NetworkVolume, remote


async def noop(n: int) -> int:
    """Does nothing."""
    return n


plain = remote(CpuLiveServerless(name="plain", workersMax=1, idleTimeout=0))(noop)
mounts = remote(
    CpuLiveServerless(
        name="mounts",
        workersMax=1,
        idleTimeout=0,
        networkVolume=NetworkVolume("bench", mount_path="/flash-bench"),
    )
)(noop)


def rows(run: Run) -> Rows:
    """Median of pairs: a start with a volume, less one without."""
    pairs, trip = run.beside(lambda: nursery.run(__name__, "5" if run.quick else "15"))
    cost = median(with_it - without for without, with_it in pairs)
    bare = f"without one {median(without for without, _ in pairs):.1f} ms"
    yield Row("Flash", "a volume, added to a worker's start", cost, "ms", trip, Goal(5), bare)


async def _measure(times: int) -> list[tuple[float, float]]:
    await plain(0)
    await mounts(0)
    return [(await _start_ms(plain, n), await _start_ms(mounts, n)) for n in range(times)]


async def _start_ms(function: Callable[[int], Awaitable[Any]], n: int) -> float:
    await no_workers()
    begin = time.perf_counter_ns()
    job = await function(n)
    took = (time.perf_counter_ns() - begin) / 1e6
    assert job.output == n, job.error
    return took


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(int(sys.argv[1])))))
