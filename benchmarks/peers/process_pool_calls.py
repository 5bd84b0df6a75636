"""The standard library's process pool, started as this Python does it by default: what a pipe to a worker costs."""

import json
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from benchmarks import laps, memory


def noop(n: int) -> dict[str, int]:
    """Does nothing."""
    return {"n": n}


def main() -> None:
    """Figures of one way, for as many calls as asked."""
    how, calls = sys.argv[1], int(sys.argv[2])
    workers = 1 if how == "sequential" else 2
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(time.sleep, [0.1] * workers))  # it starts one when none is free

        def send(n: int) -> Future[dict[str, int]]:
            return pool.submit(noop, n)

        found: Any
        if how == "sequential":
            found = laps.sequential(lambda n: send(n).result(), calls)
        else:
            found = {"idle_mb": memory.idle_mb(), **laps.in_flight(send, lambda future: future.result(), calls)}
    print(json.dumps({"task": found}))


if __name__ == "__main__":
    main()
