"""Ray: tasks, and calls of an actor, on a cluster of one machine."""

# mypy: ignore-errors
# Ray is installed in the environment that this runs in, and only there.

import json
import logging
import os
import random
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers of this run

import ray

from benchmarks import laps, memory


@ray.remote(num_cpus=0.5)
def noop(n):
    """As a task."""
    return {"n": n}


@ray.remote(num_cpus=0.5)
class Noop:
    """As an actor."""

    def call(self, n):
        """Does nothing."""
        return {"n": n}


def sequential(submit, calls):
    """One after another."""
    return laps.sequential(lambda n: ray.get(submit(n)), calls)


def in_flight(submit, calls):
    """As many are sent again as have come back: waiting for each alone would cost Ray far more."""
    clock = laps.Clock(calls)
    waiting = [submit(n) for n in range(laps.LANES)]
    while not clock.over:
        ready, waiting = ray.wait(waiting, num_returns=100)
        ray.get(ready)
        clock.count(len(ready))
        waiting += [submit(n) for n in range(len(ready))]
    ray.get(waiting)
    return clock.result()


def main():
    """Figures of both, for as many calls as asked."""
    how, calls = sys.argv[1], int(sys.argv[2])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=200_000_000,
        _temp_dir=os.environ["BENCH_SCRATCH"],
    )
    ray.get([noop.remote(n) for n in range(4)])
    idle_mb = memory.idle_mb() if how == "in_flight" else None  # before there are actors besides the workers
    actors = [Noop.remote(), Noop.remote()]
    if how == "sequential":
        found = {"task": sequential(noop.remote, calls), "actor": sequential(actors[0].call.remote, calls)}
    else:
        found = {
            "task": {"idle_mb": idle_mb, **in_flight(noop.remote, calls)},
            "actor": in_flight(lambda n: random.choice(actors).call.remote(n), calls),  # noqa: PLW0108
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
