"""What a program waits for before its first call: the import, and an engine that is not running yet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from statistics import median

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import settings
from runpod_flash.client import launch

IMPORTS = {
    "import runpod_flash": "import runpod_flash",
    "import of what a program uses": "from runpod_flash import CpuLiveServerless, remote",
}


def import_rows(run: Run) -> Rows:
    """A fresh interpreter with the import, less one without it."""
    for metric, code in IMPORTS.items():
        trip = run.round_trip_us()
        both = [(_interpreter_ms(code), _interpreter_ms("pass")) for _ in range(5 if run.quick else 21)]
        bare = median(without for _, without in both)
        cost = median(with_it - without for with_it, without in both)
        yield Row("Flash", metric, cost, "ms", trip, Goal(60), f"bare interpreter {bare:.0f} ms")


def engine_rows(run: Run) -> Rows:
    """From an empty data folder to an engine that has said WELCOME; its host starts meanwhile."""
    trip = run.round_trip_us()
    found = [nursery.run(__name__) for _ in range(3 if run.quick else 7)]
    spread = f"{min(found):.0f} to {max(found):.0f} ms"
    yield Row("Flash", "engine from nothing to ready", median(found), "ms", trip, Goal(400), spread)


def _interpreter_ms(code: str) -> float:
    begin = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter_ns() - begin) / 1e6


async def _engine_ms() -> float:
    where = launch.place(settings.load())
    begin = time.perf_counter_ns()
    launch.connect(where).close()
    return (time.perf_counter_ns() - begin) / 1e6


if __name__ == "__main__":
    print(asyncio.run(_engine_ms()))
