"""Where instances of remote classes live: each in one worker, its home, which gets its calls as long as it takes any.

Decided here and told to the worker with the call, so that both always agree on what lives there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from runpod_flash.engine.records import Pool, Worker

KEPT: Final = 4
"""Instances that one worker keeps; with cards, which are full with one model, it keeps one."""


def unclaimed(pool: Pool) -> int:
    """Its waiting jobs, without those of instances that live somewhere: these wait for their worker, not for any."""
    if not pool.of_instances:
        return pool.queued
    return pool.queued - sum(count for key, count in pool.of_instances.items() if key in pool.homes)


def unclaimed_requests(pool: Pool) -> int:
    """The same of load-balanced calls."""
    if not pool.homes:
        return len(pool.requests)
    return sum(1 for request in pool.requests if request.instance not in pool.homes)


def movable_requests(worker: Worker) -> int:
    """What its calls say about how many workers are wanted: those of instances could go to no other."""
    if not worker.instances:
        return len(worker.requests)
    return min(len(worker.requests), worker.pool.endpoint.spec.scaler_value)


def may_settle(pool: Pool) -> bool:
    """Whether an instance without a home may get one: a worker that is away for the moment may have it."""
    return all(worker.link is not None or worker.state != "busy" for worker in pool.workers.values())


def roomiest(workers: Iterable[Worker]) -> Worker | None:
    """The worker with the fewest instances; of equals the first."""
    return min(workers, key=lambda worker: len(worker.instances), default=None)


def settle(worker: Worker, key: str) -> list[str]:
    """A call of this instance goes to the worker, where it lives from now on; those that have to give way."""
    worker.instances.pop(key, None)
    most = 1 if worker.gpus else KEPT
    used = {request.instance for request in worker.requests.values()} if worker.requests else set()
    gone = [one for one in worker.instances if one not in used][: max(0, len(worker.instances) + 1 - most)]
    for one in gone:
        del worker.instances[one]
        if worker.pool.homes.get(one) is worker:
            del worker.pool.homes[one]
    worker.instances[key] = None
    worker.pool.homes[key] = worker
    return gone


def found(worker: Worker, keys: Iterable[str]) -> None:
    """These live in a worker that is there again, the least recently used first."""
    worker.instances = dict.fromkeys([*keys, *(job.instance for job in worker.inflight if job.instance)])
    if worker.state in {"idle", "busy"}:
        for key in worker.instances:
            worker.pool.homes.setdefault(key, worker)


def vacate(worker: Worker) -> None:
    """It takes nothing new: what lives there is lost to calls that come, and they make it anew elsewhere."""
    homes = worker.pool.homes
    for key in worker.instances:
        if homes.get(key) is worker:
            del homes[key]


def whose_jobs(worker: Worker) -> tuple[str, str, bool]:
    """For the store: which instances live in the worker, which elsewhere, and whether it may take one of nowhere."""
    homes = worker.pool.homes
    elsewhere = [key for key, home in homes.items() if home is not worker]
    mine = [key for key in worker.instances if homes.get(key) is worker]
    return json.dumps(mine), json.dumps(elsewhere), may_settle(worker.pool)
