"""How everything stands, in the words of the plan."""

from __future__ import annotations

import os
from typing import Final

from runpod_flash.engine import homes, views
from runpod_flash.engine import plan as planning
from runpod_flash.engine.lineage import Lineage, waits_for_calls
from runpod_flash.engine.records import Endpoint, Phase, Pool, Worker
from runpod_flash.engine.state import State

_COUNTED: Final = 1000
"""So many jobs want more workers than anybody has; beyond it nobody counts."""


def snapshot_of(state: State) -> views.Snapshot:
    """The engine's memory as the plan sees it."""
    now, wall = state.clock.monotonic(), state.clock.wall_ms()
    endpoints = {number: _endpoint_view(endpoint, now) for number, endpoint in state.endpoints.items()}
    endpoints.update((_place(pool), _aside(pool)) for pool in state.pools.values() if pool.phase)
    return views.Snapshot(
        endpoints=endpoints,
        pools={pool.id: _pool_view(state, pool, now, wall) for pool in state.pools.values()},
        workers=tuple(_worker_view(worker, now, state.lineage) for worker in state.workers.values()),
        capacity=_capacity(state),
        draining=state.draining,
    )


def _place(pool: Pool) -> int:
    """The endpoint that a pool is planned with: its own one, unless it is of a release that is not called now."""
    return -pool.id if pool.phase else pool.endpoint.id


def _aside(pool: Pool) -> views.EndpointView:
    """What stands beside the release that is called has workers of its own, and takes none of that one's places.

    Before it is called, the least that it needs; after it, as many as what waits there needs, and then none but those
    that finish what they have.
    """
    spec, staged = pool.endpoint.spec, pool.phase is Phase.STAGED
    return views.EndpointView(
        id=_place(pool),
        workers_min=pool.least if staged else 0,
        workers_max=max(pool.least, spec.workers_max) if staged else spec.workers_max if pool.waiting else 0,
        idle_timeout_ms=int(spec.idle_timeout_s * 1000) if staged else 0,
        scaler=spec.scaler,
        scaler_value=spec.scaler_value,
        lb=spec.kind == "lb",
        held=staged,
        priority_pool=pool.id,
        name=spec.name,
    )


def _capacity(state: State) -> views.Capacity:
    machine = state.host.machine if state.host else None
    cpus = machine.cpus if machine else os.cpu_count() or 1
    return views.Capacity(
        memory_mb=machine.memory_mb if machine else 0,
        gpus=tuple(index for index, _name, _memory in machine.gpus) if machine else (),
        max_workers=max(16, 4 * cpus),
    )


def _endpoint_view(endpoint: Endpoint, now: float) -> views.EndpointView:
    spec = endpoint.spec
    lately = endpoint.unheld_since > 0 and now - endpoint.unheld_since < spec.idle_timeout_s
    return views.EndpointView(
        id=endpoint.id,
        workers_min=spec.workers_min,
        workers_max=spec.workers_max,
        idle_timeout_ms=int(spec.idle_timeout_s * 1000),
        scaler=spec.scaler,
        scaler_value=spec.scaler_value,
        lb=spec.kind == "lb",
        held=bool(endpoint.holders) or lately or spec.origin != "script",
        priority_pool=endpoint.last_pool.id if endpoint.last_pool else None,
        name=spec.name,
    )


def _pool_view(state: State, pool: Pool, now: float, wall: int) -> views.PoolView:
    queued = 0 if pool.failing else _wanting(state, pool, homes.unclaimed(pool))
    oldest = state.store.oldest(pool.id) if queued else None
    waited_ms = max(0, wall - oldest) if oldest else 0
    if pool.requests:
        waited_ms = max(waited_ms, int((now - pool.requests[0].asked_at) * 1000))
    hands = sum(1 for worker in pool.workers.values() if worker.state in {"idle", "busy"})
    soon = 0 <= pool.run_us * queued <= planning.RUNS_SOON_MS * 1000 * hands
    if any(worker.state not in {"draining", "stopping"} for worker in pool.workers.values()):
        pool.manned_at = now
    # A build that failed is tried again at once for a job, and after a while for workersMin.
    resting = pool.environment.state == "unknown" and not pool.waiting and now < pool.environment.blocked_until
    return views.PoolView(
        id=pool.id,
        endpoint=_place(pool),
        queued=queued + homes.unclaimed_requests(pool),
        oldest_wait_ms=waited_ms,
        running=sum(_at_work(worker, state.lineage) for worker in pool.workers.values()),
        env="building" if resting else pool.environment.state,
        gpus=pool.placement.gpus,
        cards=pool.placement.cards,
        memory_mb=pool.placement.memory_mb,
        cpus=pool.placement.cpus,
        concurrency=max(pool.spec.concurrency, pool.at_once),
        launch_blocked_ms=max(0, int((pool.blocked_until - now) * 1000)),
        starts_slowly=pool.asks,
        queued_runs_soon=soon and hands > 0,
        unmanned_ms=int((now - pool.manned_at) * 1000),
    )


def _wanting(state: State, pool: Pool, queued: int) -> int:
    """How many of its jobs want workers: those of low priority want one only where there is none at all."""
    if pool.id not in state.of_low_priority:
        return queued
    if not pool.queued:
        state.of_low_priority.discard(pool.id)
        return queued
    wanting = state.store.of_usual_priority(pool.id, _COUNTED)
    return min(queued, wanting or int(not pool.workers)) if wanting < _COUNTED else queued


def _at_work(worker: Worker, lineage: Lineage) -> int:
    """Its jobs or calls; none where all of them wait for calls of their own, and its place is lent."""
    if lineage.above and waits_for_calls(lineage, worker):
        return 0
    return len(worker.inflight) + homes.movable_requests(worker)


def _worker_view(worker: Worker, now: float, lineage: Lineage) -> views.WorkerView:
    state = worker.state
    return views.WorkerView(
        id=worker.id,
        pool=worker.pool.id,
        state="stopping" if state == "draining" else state,
        idle_ms=int((now - worker.idle_since) * 1000) if state == "idle" else 0,
        gpus=worker.gpus,
        age_ms=int((now - worker.ready_at) * 1000) if worker.ready_at else 0,
        waiting=state in {"busy", "draining"} and bool(lineage.above) and waits_for_calls(lineage, worker),
    )
