"""Scaling as one pure function: how things stand in, what to do out.

`plan` starts, stops and moves workers between pools; docs/design/scaling.md has the rules and their reasons.
It does no I/O and keeps nothing: whoever carries the actions out shows their effect in the next snapshot,
where a launched worker is `starting` and a stopped or drained one `stopping`. A plan that is being carried
out is not made again. It runs at most once a turn: one pass over workers and pools, and a sort only of those
that something happens to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, Literal

from runpod_flash.engine.book import Book, EndpointBook, PoolBook, Room, among
from runpod_flash.engine.views import (
    Action,
    DrainWorker,
    EndpointView,
    EnsureEnv,
    Launch,
    PoolView,
    Snapshot,
    StopWorker,
    WaitCode,
    Waits,
    WorkerView,
)

DELAY_DIVISOR: Final = 40
"""A worker starts here in tens of milliseconds, in a cloud in seconds: that much sooner comes the next."""
RUNS_SOON_MS: Final = 100
"""A queue that its workers will have emptied within this time needs no further worker."""
REFUTED_MS: Final = 2 * RUNS_SOON_MS
"""A job that has waited this long shows that the measurement no longer holds."""
TURN_MS: Final = 2_000
"""How long a busy worker keeps its place before a pool that waits as long may ask for it."""


def plan(snapshot: Snapshot) -> list[Action]:
    """What to do now. The same snapshot gives the same actions, in the same order."""
    book = Book.of(snapshot)
    actions: list[Action] = [*_end_idle(book), *_end_surplus(book)]
    if not snapshot.draining:
        actions += _serve_queues(book)
        actions += _keep_minimum(book)
    return actions


def look_again_ms(snapshot: Snapshot) -> int | None:
    """In how many milliseconds the plan may change by the passing of time alone; None: never."""
    book = Book.of(snapshot)
    times = [*_idle_times(book), *(_waiting_times(book) if not snapshot.draining else ())]
    return min((time for time in times if time > 0), default=None)


# ── how many workers ──────────────────────────────────────────────────────────────────────────────


def _wanted(pool: PoolBook) -> int:
    """How many workers the pool's own jobs call for, limits aside."""
    view, endpoint = pool.view, pool.endpoint.view
    jobs = view.queued + view.running
    if endpoint.lb:
        return _divide_up(jobs, min(endpoint.scaler_value, view.concurrency))
    if not view.queued:
        return 0
    if endpoint.scaler == "REQUEST_COUNT":
        return _divide_up(jobs, endpoint.scaler_value)
    if view.oldest_wait_ms >= _patience_ms(view, endpoint):
        return _divide_up(jobs, view.concurrency)
    return max(1, pool.alive)


def _patience_ms(pool: PoolView, endpoint: EndpointView) -> int:
    """How long a queue may wait before more workers than the first one come."""
    delay = 1000 * endpoint.scaler_value // (1 if pool.starts_slowly else DELAY_DIVISOR)
    return max(delay, REFUTED_MS) if pool.queued_runs_soon else delay


def _divide_up(count: int, by: int) -> int:
    return -(-count // max(1, by))


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────


def _end_idle(book: Book) -> Iterator[Action]:
    for pool in book.pools.values():
        timeout = pool.endpoint.view.idle_timeout_ms
        if pool.view.queued or not any(worker.idle_ms >= timeout for worker in pool.idle):
            continue
        for worker in sorted(pool.idle, key=_longest_idle):
            if pool.alive <= pool.minimum or worker.idle_ms < timeout:
                break
            book.end(worker)
            yield StopWorker(worker.id, "idle")


def _end_surplus(book: Book) -> Iterator[Action]:
    """After workersMax was lowered: first idle, then starting workers; busy ones finish what they have."""
    for endpoint in book.endpoints.values():
        if endpoint.alive <= endpoint.view.workers_max:
            continue
        idle = sorted(_each(endpoint, "idle"), key=_longest_idle)
        starting = sorted(_each(endpoint, "starting"), key=_by_id)
        busy = sorted(_each(endpoint, "busy"), key=_by_id)
        for worker in (*idle, *starting, *busy):
            if endpoint.alive <= endpoint.view.workers_max:
                break
            if worker.id not in book.gone:
                book.end(worker)
                yield _ending(worker, "surplus")


def _ending(worker: WorkerView, why: Literal["evicted", "surplus"]) -> Action:
    return DrainWorker(worker.id, why) if worker.state == "busy" else StopWorker(worker.id, why)


def _each(endpoint: EndpointBook, state: Literal["idle", "starting", "busy"]) -> Iterator[WorkerView]:
    for pool in endpoint.pools:
        yield from getattr(pool, state)


def _longest_idle(worker: WorkerView) -> tuple[int, str]:
    return -worker.idle_ms, worker.id


def _by_id(worker: WorkerView) -> str:
    return worker.id


# ── queues ────────────────────────────────────────────────────────────────────────────────────────


def _serve_queues(book: Book) -> Iterator[Action]:
    """Workers for the pools that want more: the endpoint that has the fewest first, and so its pools."""
    claims: dict[int, list[tuple[int, int, int]]] = {}
    for pool in book.pools.values():
        wanted = _wanted(pool)
        if not wanted:
            continue
        if pool.view.env == "unknown":
            yield EnsureEnv(pool.view.id)
        elif pool.alive >= wanted:
            continue
        elif not pool.can_launch():
            yield Waits(pool.view.id, *_why_not_yet(pool.view))
        else:
            claims.setdefault(pool.endpoint.view.id, []).append(_pool_rank(pool))
    if claims:
        yield from _settle(book, claims)


def _why_not_yet(pool: PoolView) -> tuple[WaitCode, str]:
    if pool.env == "building":
        return "environment", "waiting for its environment, which is being built"
    seconds = _divide_up(pool.launch_blocked_ms, 1000)
    return "backoff", f"its workers crash while they start; the next try is within {seconds} s"


def _settle(book: Book, claims: dict[int, list[tuple[int, int, int]]]) -> Iterator[Action]:
    """Goes round the endpoints, one worker at a time, until nobody wants or can get another."""
    wanted = {rank[-1]: _wanted(book.pools[rank[-1]]) for ranks in claims.values() for rank in ranks}
    for ranks in claims.values():
        heapq.heapify(ranks)
    queue = [_endpoint_rank(book.endpoints[number], ranks) for number, ranks in claims.items()]
    heapq.heapify(queue)
    while queue:
        number = heapq.heappop(queue)[-1]
        ranks = claims[number]
        pool = book.pools[heapq.heappop(ranks)[-1]]
        helped, actions = _serve(book, pool)
        yield from actions
        if helped and pool.alive < wanted[pool.view.id]:
            heapq.heappush(ranks, _pool_rank(pool))
        if ranks:
            heapq.heappush(queue, _endpoint_rank(book.endpoints[number], ranks))


def _pool_rank(pool: PoolBook) -> tuple[int, int, int]:
    return pool.alive, -pool.hungry_ms, pool.view.id


def _endpoint_rank(endpoint: EndpointBook, ranks: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    return endpoint.alive, ranks[0][1], endpoint.view.id


def _serve(book: Book, pool: PoolBook) -> tuple[bool, list[Action]]:
    """One worker for the pool: launched, or its place made and reserved; or why there is none."""
    if book.fits_now(pool):
        return True, [Launch(pool.view.id, book.take(pool))]
    lacking = book.lacking(pool)
    ended = _make_room(book, pool, lacking)
    if ended is None:
        return False, [Waits(pool.view.id, *_why_none(book, pool, lacking))]
    for worker in ended:
        book.end(worker)
    book.take(pool)
    return True, [_ending(worker, "evicted") for worker in ended]


def _make_room(book: Book, pool: PoolBook, lacking: Room) -> list[WorkerView] | None:
    """The workers to end so that one of the pool has room; [] if room is coming, None if there is none."""
    if lacking.enough():
        return []
    spare = _spare(book, pool)
    if (chosen := _choose(book, pool, spare, lacking)) is not None:
        return chosen
    if pool.hungry_ms < TURN_MS:
        return None
    return _choose(book, pool, [*spare, *_owed(book, pool)], lacking)


def _choose(book: Book, pool: PoolBook, candidates: Iterable[WorkerView], lacking: Room) -> list[WorkerView] | None:
    """The first of the candidates that together make up for what is lacking; None if all of them do not."""
    chosen: list[WorkerView] = []
    left = replace(lacking)
    for worker in candidates:
        theirs = book.pools[worker.pool]
        cards = among(worker.gpus, pool)
        at_home = theirs.endpoint is pool.endpoint
        if (
            (left.places > 0 and at_home)
            or (left.slots > 0 and lacking.places <= 0)
            or (left.memory > 0 and theirs.memory)
            or (left.gpus > 0 and cards)
        ):
            chosen.append(worker)
            left.places -= at_home
            left.slots -= 1
            left.memory -= theirs.memory
            left.gpus -= len(cards)
        if left.enough():
            return chosen
    return None


def _spare(book: Book, pool: PoolBook) -> list[WorkerView]:
    """Idle workers that nobody is about to use, the longest idle first, those of a kept minimum last."""
    found: list[tuple[bool, tuple[int, str], WorkerView]] = []
    for other in book.pools.values():
        if other is not pool and other.idle and not other.view.queued:
            kept = other.alive <= other.minimum
            found += [(kept, _longest_idle(worker), worker) for worker in other.idle if worker.id not in book.gone]
    return [worker for _kept, _rank, worker in sorted(found, key=lambda item: item[:2])]


def _owed(book: Book, pool: PoolBook) -> list[WorkerView]:
    """Busy workers that had their turn, of pools that would keep them busy and have too large a share."""
    found: list[tuple[int, int, str, WorkerView]] = []
    for other in book.pools.values():
        if not other.view.queued or other.view.queued_runs_soon or not _has_too_much(other, pool):
            continue
        found += [
            (-other.endpoint.alive, -worker.age_ms, worker.id, worker)
            for worker in other.busy
            if worker.age_ms >= TURN_MS and worker.id not in book.gone
        ]
    return [item[-1] for item in sorted(found, key=lambda item: item[:-1])]


def _has_too_much(other: PoolBook, pool: PoolBook) -> bool:
    """Whether moving a worker evens their shares out; who has none takes turns with who has one."""
    if other is pool:
        return False
    if other.endpoint is pool.endpoint:
        return pool.alive == 0 or other.alive >= pool.alive + 2
    return pool.endpoint.alive == 0 or other.endpoint.alive >= pool.endpoint.alive + 2


def _why_none(book: Book, pool: PoolBook, lacking: Room) -> tuple[WaitCode, str]:
    if lacking.places > 0:
        most = pool.endpoint.view.workers_max
        return "workers_max", f"waiting for a worker: workersMax={most} {'is' if most == 1 else 'are'} busy"
    if lacking.gpus > 0:
        return "gpu", f"waiting for a GPU: {_gpu_users(book, pool)}"
    if lacking.memory > 0:
        has = book.capacity.memory_mb
        return "memory", f"waiting for memory: a worker needs {pool.memory} of this machine's {has} MB"
    return "machine_full", f"waiting for a worker: this machine runs {book.capacity.max_workers}, as many as it takes"


def _gpu_users(book: Book, pool: PoolBook) -> str:
    """Such as `GPU 0 is in use by train, GPU 1 by infer`."""
    users: list[str] = []
    for gpu in sorted(pool.cards & book.leases.keys()):
        worker = book.leases[gpu]
        name = book.pools[worker.pool].endpoint.view.name or f"worker {worker.id}"
        users.append(f"GPU {gpu} {'by' if users else 'is in use by'} {name}")
    return ", ".join(users)


# ── workersMin ────────────────────────────────────────────────────────────────────────────────────


def _keep_minimum(book: Book) -> Iterator[Action]:
    """Fills up with what is free: nobody's worker is ended for one that has nothing to do yet."""
    for endpoint in sorted(book.endpoints.values(), key=lambda one: (one.alive, one.view.id)):
        number = endpoint.view.priority_pool
        pool = book.pools.get(number) if number is not None else None
        if pool is None or pool.alive >= pool.minimum:
            continue
        if pool.view.env == "unknown" and not pool.view.queued:
            yield EnsureEnv(pool.view.id)
        while pool.can_launch() and pool.alive < pool.minimum and book.fits_now(pool):
            yield Launch(pool.view.id, book.take(pool))


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


def _idle_times(book: Book) -> Iterator[int]:
    for pool in book.pools.values():
        if pool.alive > pool.minimum:
            timeout = pool.endpoint.view.idle_timeout_ms
            yield from (timeout - worker.idle_ms for worker in pool.idle)


def _waiting_times(book: Book) -> Iterator[int]:
    hungry = False
    for pool in book.pools.values():
        if pool.view.queued or pool.alive < pool.minimum:
            yield pool.view.launch_blocked_ms
        if pool.view.queued:
            hungry = True
            yield _patience_ms(pool.view, pool.endpoint.view) - pool.view.oldest_wait_ms
            yield TURN_MS - pool.hungry_ms
    if hungry:
        yield from (TURN_MS - worker.age_ms for pool in book.pools.values() for worker in pool.busy)
