"""How long somebody at a terminal waits: for a program that only says its version, and for a list out of many jobs.

Figures are times on the clock, as that is what somebody waits. Beside that of `flash --version` stands the time on a
processor, which neighbours disturb least.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash.engine.store.rows import Ended, NewJob
from runpod_flash.engine.store.sqlite import SqliteStore, open_store
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec, RuntimeSpec
from runpod_flash.model.job import JobState, new_job_id
from runpod_flash.settings import load
from runpod_flash.wire.messages import ErrorInfo, FunctionSpec

JOBS: Final = 100_000
FLASH: Final = Path(sys.executable).with_name("flash")
LISTINGS: Final = {
    "flash jobs": ("jobs",),
    "flash jobs --failed": ("jobs", "--failed"),
    "flash jobs --function, one in a thousand": ("jobs", "--function", "rare"),
    "flash jobs --status TIMED_OUT, none": ("jobs", "--status", "TIMED_OUT"),
    "flash ps": ("ps",),
}


def version_rows(run: Run) -> Rows:
    """A fresh process each time, its files in the disk's cache."""
    found, trip = run.beside(lambda: [_spent("--version") for _ in range(5 if run.quick else 21)])
    processor = f"{median(cpu for cpu, _clock in found):.0f} ms of it on a processor"
    yield Row("Flash", "flash --version", median(clock for _cpu, clock in found), "ms", trip, Goal(150), processor)


def listing_rows(run: Run) -> Rows:
    """Out of a store with a hundred thousand jobs, by an engine that runs."""
    jobs = run.calls(JOBS)
    found, trip = run.beside(lambda: nursery.run(__name__, jobs, "3" if run.quick else "9"))
    for name, times in found.items():
        spread = f"{min(times):.0f} to {max(times):.0f} ms"
        yield Row("Flash", f"{name}, of {int(jobs):,}", median(times), "ms", trip, Goal(300), spread)


def _spent(*arguments: str) -> tuple[float, float]:
    """Milliseconds on a processor and on the clock."""
    begin = time.perf_counter_ns()
    process = subprocess.Popen([FLASH, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    clock = (time.perf_counter_ns() - begin) / 1e6
    if process.returncode:
        raise nursery.Failed(f"flash {' '.join(arguments)} ended with {process.returncode}")
    return (used.ru_utime + used.ru_stime) * 1000, clock


def _fill(path: Path, jobs: int) -> None:
    """Jobs as a busy day leaves them: of two endpoints, one in a hundred failed, the last few waiting."""
    store = open_store(path, durability="process")
    try:
        store.begin()
        usual, rare = (_declare(store, name) for name in ("usual", "rare"))
        now = round(time.time() * 1000) - jobs
        for n in range(jobs):
            _put(store, rare if n % 1000 == 0 else usual, now + n, failed=n % 100 == 7, waits=n >= jobs - 20)
        store.commit()
    finally:
        store.close()


def _declare(store: SqliteStore, name: str) -> tuple[int, int]:
    now = round(time.time() * 1000)
    endpoint = store.save_endpoint(name, msgspec.json.encode(EndpointSpec("bench", "dev", name)), now)
    pool = PoolSpec("/usr/bin/python3", "cpython-311", RuntimeSpec("r", "1", "/p", "/c", "/m"))
    number = store.save_pool(endpoint, name, msgspec.json.encode(pool), now)
    function = FunctionSpec(name=f"bench.py:{name}", version="v1", digest=name)
    return number, store.save_function(number, function.name, "v1", name, msgspec.json.encode(function), now)


def _put(store: SqliteStore, where: tuple[int, int], at_ms: int, *, failed: bool, waits: bool) -> None:
    state = JobState.DELAYED if waits else JobState.RUNNING
    job = NewJob(
        id=new_job_id(), pool=where[0], fn=where[1], state=state, priority=0, worker="" if waits else "w0",
        created_ms=at_ms, timeout_ms=3_600_000, max_retries=3, awaited=False, args=b"a" * 300, args_head=None,
        ready_ms=at_ms + 86_400_000 if waits else None, expires_ms=None,
    )  # fmt: skip
    seq = store.put(job)
    if seq is None or waits:
        return
    error = msgspec.json.encode(ErrorInfo(type="ValueError", message="bad", traceback="x" * 500)) if failed else None
    end = JobState.FAILED if failed else JobState.COMPLETED
    store.finish(Ended(seq, 1, end, at_ms + 5, at_ms + 1, 0, 0, b"v" * 200, None, None, error, None))


def main() -> None:
    """In the nursery: fills a store, starts its engine, and lists."""
    home = load().home
    home.mkdir(parents=True, exist_ok=True)
    jobs, times = int(sys.argv[1]), int(sys.argv[2])
    _fill(home / "store.sqlite", jobs)
    _spent("engine", "start")
    print(json.dumps({name: [_spent(*line)[1] for _ in range(times)] for name, line in LISTINGS.items()}))


if __name__ == "__main__":
    main()
