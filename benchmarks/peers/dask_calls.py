"""Dask's scheduler for clusters, as its documentation starts one on a single machine, without the dashboard.

Its client sends what has gathered every 10 ms and no sooner, and nothing documented changes that: a call right
after another waits for it. Its form for `async` programs is no faster.
"""

# mypy: ignore-errors
# Dask is installed in the environment that this runs in, and only there.

import json
import os
import sys

from dask.distributed import Client, LocalCluster

from benchmarks import laps, memory

BATCH = 100


def noop(n):
    """Does nothing."""
    return {"n": n}


def in_flight(client, calls):
    """A hundred at once are fetched, the oldest, and sent again: fetching each alone costs Dask twice as much."""
    clock = laps.Clock(calls)
    waiting = client.map(noop, range(laps.LANES), pure=False)
    while not clock.over:
        oldest, waiting = waiting[:BATCH], waiting[BATCH:]
        client.gather(oldest)
        clock.count(BATCH)
        waiting += client.map(noop, range(BATCH), pure=False)
    return clock.result()


def main():
    """Figures of one way, for as many calls as asked."""
    how, calls = sys.argv[1], int(sys.argv[2])
    workers = 1 if how == "sequential" else 2
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=os.environ["BENCH_SCRATCH"],
        ) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(noop, range(2 * workers), pure=False))

        if how == "sequential":  # not pure: otherwise an argument seen before is answered from memory
            found = laps.sequential(lambda n: client.submit(noop, n, pure=False).result(), calls)
        else:
            found = {"idle_mb": memory.idle_mb(), **in_flight(client, calls)}
        print(json.dumps({"task": found}), flush=True)


if __name__ == "__main__":
    main()
