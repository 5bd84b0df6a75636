"""Ray: tasks, and calls of an actor. Nothing of it is durable."""

# mypy: ignore-errors
# Ray is installed in the environment that this runs in, and only there.

import json
import logging
import os
import random
import sys

import ray

from benchmarks import laps

IN_FLIGHT = 1000


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
    return laps.sequential(lambda n: ray.get(submit(n)), warm=300, rounds=3, calls=calls)


def in_flight(submit, calls):
    """A thousand in flight: as many are sent again as have come back."""
    clock = laps.Clock(warm=5 * IN_FLIGHT, calls=calls)
    waiting = [submit(n) for n in range(IN_FLIGHT)]
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
    actors = [Noop.remote(), Noop.remote()]
    if how == "sequential":
        found = {"task": sequential(noop.remote, calls), "actor": sequential(actors[0].call.remote, calls)}
    else:
        found = {
            "task": in_flight(noop.remote, calls),
            "actor": in_flight(lambda n: random.choice(actors).call.remote(n), calls * 2),  # noqa: PLW0108
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
