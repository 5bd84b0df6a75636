"""huey with Redis, and with SQLite: its consumer with forked processes, without periodic tasks.

Where it polls (SQLite), the consumer does so every millisecond (by default 100 to 10,000) and so does the caller
(by default 50 to 1000); shorter delays only take the core from whoever works.
"""

# mypy: ignore-errors
# huey is installed in the environment that this runs in, and only there.

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from benchmarks import laps, memory
from benchmarks.peers import huey_app, redis_server

POLL_S = 0.001


@contextmanager
def consumer(app, workers):
    """As documented; ready when first tasks have come back."""
    running = subprocess.Popen([
        Path(sys.executable).with_name("huey_consumer"), f"{huey_app.__name__}.{app}",
        "--workers", str(workers), "--worker-type", "process", "--no-periodic", "--quiet",
        "--delay", str(POLL_S), "--max-delay", str(POLL_S),
    ])  # fmt: skip
    try:
        for result in [huey_app.TASKS[app](n) for n in range(2 * workers)]:
            result.get(blocking=True, timeout=60)
        yield
    finally:
        running.terminate()
        running.wait()


def receive(result):
    """Waits for it."""
    return result.get(blocking=True, backoff=1, max_delay=POLL_S)


def measured(how, app, calls):
    """Figures of one storage."""
    send = huey_app.TASKS[app]
    with consumer(app, 1 if how == "sequential" else 2):
        if how == "sequential":
            return laps.sequential(lambda n: receive(send(n)), calls)
        return {"idle_mb": memory.idle_mb(), **laps.in_flight(send, receive, calls)}


def main():
    """Figures of both, for as many calls as asked; SQLite first, while there is no Redis whose memory would count."""
    how, calls = sys.argv[1], int(sys.argv[2])
    sqlite = measured(how, "in_sqlite", calls)
    redis_server.start()
    print(json.dumps({"redis": measured(how, "in_redis", calls), "sqlite": sqlite}))


if __name__ == "__main__":
    main()
