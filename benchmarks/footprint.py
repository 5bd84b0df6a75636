"""What it costs while nothing runs: memory of engine, host and workers, and their idle use of a core."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TypedDict

import psutil

from benchmarks import memory, nursery
from benchmarks.engine import workers
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import CpuLiveServerless, remote

WORKERS = 4


class Footprint(TypedDict):
    """Memory in MB (of 10**6 bytes), CPU in percent of one core."""

    engine_pss: float
    host_pss: float
    workers_private: list[float]
    all_pss: float
    cpu: float


@remote(CpuLiveServerless(name="idle", workersMin=WORKERS, workersMax=WORKERS))
def nap(n: int) -> int:
    """Keeps a worker long enough for the others to get their share."""
    time.sleep(0.2)
    return n


def rows(run: Run) -> Rows:
    """All of them of one engine with four idle workers, its caller still connected."""
    found: Footprint = nursery.run(__name__, "5" if run.quick else "20")
    both = found["engine_pss"] + found["host_pss"]
    parts = f"engine {found['engine_pss']:.0f}, host {found['host_pss']:.0f}"
    worker = max(found["workers_private"])
    private = ", ".join(f"{size:.1f}" for size in found["workers_private"])
    yield Row("Flash", "engine and host idle, PSS", both, "MB", goal=Goal(60), note=parts)
    yield Row("Flash", "largest further idle worker, private", worker, "MB", goal=Goal(10), note=private)
    yield Row("Flash", f"idle: engine, host, {WORKERS} workers, PSS", found["all_pss"], "MB")
    yield Row("Flash", f"idle: engine, host, {WORKERS} workers, CPU", found["cpu"], "% of a core", goal=Goal(0.5))


async def _measure(idle_s: float) -> Footprint:
    used = {job.worker_id async for job in nap.map(range(WORKERS * 3))}
    assert len(used) == WORKERS, used
    await asyncio.sleep(memory.SETTLED_S)
    before = cpu_s()
    await asyncio.sleep(idle_s)
    cpu = (cpu_s() - before) / idle_s * 100
    pids = {worker["pid"] for worker in workers()}
    ours = _processes()
    return {
        "engine_pss": engine_mb(),
        "host_pss": memory.pss_mb(process.pid for process in ours if "runpod_flash.host" in process.cmdline()),
        "workers_private": sorted(_private(process.pid) for process in ours if process.pid in pids)[1:],
        "all_pss": memory.pss_mb(process.pid for process in ours),
        "cpu": cpu,
    }


def engine_mb() -> float:
    """The engine's memory."""
    return memory.pss_mb(process.pid for process in _processes() if "runpod_flash.daemon" in process.cmdline())


def _processes() -> list[psutil.Process]:
    """Everything below the nursery but this program: engine, host, zygote, workers."""
    return [psutil.Process(pid) for pid in memory.below(os.getppid()) if pid != os.getpid()]


def _private(pid: int) -> float:
    return memory.rollup_mb(pid, "Private_Clean:") + memory.rollup_mb(pid, "Private_Dirty:")


def cpu_s() -> float:
    """Time on a core of every thread, by the scheduler's own count: ticks are too coarse for idlers."""
    threads = [task for process in _processes() for task in Path(f"/proc/{process.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(float(sys.argv[1])))))
