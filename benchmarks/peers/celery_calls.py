"""Celery with Redis as broker and result store.

As its guide to optimisation has it for short tasks whose latency counts: many are fetched ahead.
"""

# mypy: ignore-errors
# Celery is installed in the environment that this runs in, and only there.

import json
import subprocess
import sys

from celery import Celery, group

from benchmarks import laps, memory
from benchmarks.peers import redis_server

url = f"redis+socket://{redis_server.SOCKET}"
app = Celery("celery_calls", broker=url, backend=url)
app.conf.worker_prefetch_multiplier = 128


@app.task(name="noop")
def noop(n):
    """Does nothing."""
    return {"n": n}


def start_workers(number):
    """Celery's default pool of forked processes; ready when first tasks have come back."""
    subprocess.Popen([
        sys.executable, "-m", "celery", "-A", __spec__.name, "worker", "--concurrency", str(number),
        "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ], stdout=sys.stderr)  # fmt: skip
    group(noop.s(n) for n in range(2 * number)).delay().get(timeout=60)


def main():
    """Figures of one way, for as many calls as asked."""
    how, calls = sys.argv[1], int(sys.argv[2])
    redis_server.start()
    start_workers(1 if how == "sequential" else 2)
    if how == "sequential":
        found = laps.sequential(lambda n: noop.delay(n).get(), calls)
    else:
        found = {"idle_mb": memory.idle_mb(), **laps.in_flight(noop.delay, lambda result: result.get(), calls)}
    print(json.dumps({"task": found}))


if __name__ == "__main__":
    main()
