"""Celery with Redis as broker and result store; Redis appends to its file and syncs once a second."""

# mypy: ignore-errors
# Celery is installed in the environment that this runs in, and only there.

import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import redis
from celery import Celery

from benchmarks import laps

IN_FLIGHT = 1000
SOCKET = Path(os.environ["BENCH_SCRATCH"]) / "redis"

app = Celery("celery_calls", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")


@app.task(name="noop")
def noop(n):
    """Does nothing."""
    return {"n": n}


def start_redis():
    """The server of the peer's own environment, otherwise the machine's; in a scratch folder, on a socket."""
    own = next(Path(sys.prefix).rglob("redis-server"), None)
    server = own or shutil.which("redis-server")
    if server is None:
        sys.exit("no redis-server: neither the wheel nor the system has one")
    subprocess.Popen([
        server, "--port", "0", "--unixsocket", SOCKET, "--dir", os.environ["FLASH_HOME"],
        "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
    ], stdout=sys.stderr)  # fmt: skip
    client = redis.Redis(unix_socket_path=str(SOCKET))
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def start_workers(number):
    """Celery's default pool of forked processes; ready when a first task has come back."""
    subprocess.Popen([
        sys.executable, "-m", "celery", "-A", __spec__.name, "worker", "--concurrency", str(number),
        "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ], stdout=sys.stderr)  # fmt: skip
    noop.delay(0).get(timeout=60)


def in_flight(calls):
    """A thousand in flight: the oldest is awaited, then another is sent."""
    clock = laps.Clock(warm=2 * IN_FLIGHT, calls=calls)
    waiting = deque(noop.delay(n) for n in range(IN_FLIGHT))
    while not clock.over:
        waiting.popleft().get()
        clock.count()
        waiting.append(noop.delay(clock.done))
    return clock.result()


def main():
    """Figures of one way, for as many calls as asked."""
    how, calls = sys.argv[1], int(sys.argv[2])
    start_redis()
    start_workers(1 if how == "sequential" else 2)
    if how == "sequential":
        found = laps.sequential(lambda n: noop.delay(n).get(), warm=100, rounds=3, calls=calls)
    else:
        found = in_flight(calls)
    print(json.dumps({"task": found}))


if __name__ == "__main__":
    main()
