"""What a program waits for before its first call: the import, and an engine that is not running yet."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial
from statistics import median

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash import settings
from runpod_flash.client import launch

IMPORTS = {
    "import runpod_flash": ("pass", "import runpod_flash"),
    # Names load what is behind them when they are first used; a program that awaits has asyncio already.
    "from runpod_flash import remote, …": (
        "import asyncio",
        "import asyncio; from runpod_flash import CpuLiveServerless, remote",
    ),
}


def import_rows(run: Run) -> Rows:
    """A fresh interpreter with the import, less one without it."""
    for metric, (without, with_it) in IMPORTS.items():
        pairs, trip = run.beside(partial(_pairs_ms, without, with_it, 5 if run.quick else 21))
        cost = median(after - before for before, after in pairs)
        bare = f"`{without}` alone {median(before for before, _ in pairs):.0f} ms"
        yield Row("Flash", metric, cost, "ms", trip, Goal(60), bare)


def engine_rows(run: Run) -> Rows:
    """From an empty data folder to an engine that has said WELCOME; its host starts meanwhile."""
    found, trip = run.beside(lambda: [nursery.run(__name__) for _ in range(3 if run.quick else 7)])
    spread = f"{min(found):.0f} to {max(found):.0f} ms"
    yield Row("Flash", "engine from nothing to ready", median(found), "ms", trip, Goal(400), spread)


def _pairs_ms(without: str, with_it: str, times: int) -> list[tuple[float, float]]:
    return [(_interpreter_ms(without), _interpreter_ms(with_it)) for _ in range(times)]


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
