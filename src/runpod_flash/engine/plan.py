"""Scaling as one pure function: how things stand in, what to do out.

`plan` starts, stops and moves workers between pools; docs/design/scaling.md has the rules and their reasons.
It does no I/O and keeps nothing: whoever carries the actions out shows their effect in the next snapshot,
where a launched worker is `starting` and a stopped or drained one `stopping`. A plan that is being carried
out is not made again. It runs at most once a turn: one pass over workers and pools, and a sort only of those
that something happens to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from runpod_flash.model.endpoint import ScalerKind

DELAY_DIVISOR: Final = 40
"""A worker starts here in tens of milliseconds, in a cloud in seconds: that much sooner comes the next."""
RUNS_SOON_MS: Final = 100
"""A queue that its workers will have emptied within this time needs no further worker."""
REFUTED_MS: Final = 2 * RUNS_SOON_MS
"""A job that has waited this long shows that the measurement no longer holds."""
TURN_MS: Final = 2_000
"""How long a busy worker keeps its place before a pool that waits as long may ask for it."""


# ── what is given ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker. `stopping`: takes no more work, but still has its place, memory and cards."""

    id: str
    pool: int
    state: Literal["starting", "idle", "busy", "stopping"]
    idle_ms: int = 0  # since its last job ended; 0 unless idle
    gpus: tuple[int, ...] = ()
    age_ms: int = 0  # since it was ready
    waiting: bool = False  # all that it runs waits for calls of its own; also one that takes no more work


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool and its queue. `queued` are jobs (or calls) at no worker, `running` those at one, started or not."""

    id: int
    endpoint: int
    queued: int = 0
    oldest_wait_ms: int = 0
    running: int = 0
    env: Literal["unknown", "building", "ready"] = "ready"
    gpus: int = 0  # cards for each worker …
    cards: tuple[int, ...] | None = None  # … and which of them it may have; None: any
    memory_mb: int | None = None
    cpus: float = 1  # for people: CPU time is shared, so this limits nothing here
    concurrency: int = 1
    launch_blocked_ms: int = 0  # back-off after workers that crashed while they started
    starts_slowly: bool = False  # its workers take seconds to start, as in a cloud
    queued_runs_soon: bool = False  # measured: its workers come to every queued job within RUNS_SOON_MS
    unmanned_ms: int = 1 << 40  # since it last had a worker that was not stopping; 0 while it has one


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint and its limits, which count over all its pools."""

    id: int
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_ms: int = 300_000
    scaler: ScalerKind = "QUEUE_DELAY"
    scaler_value: int = 4
    lb: bool = False  # its workers take many calls at once, so there may be too many without one that waits
    held: bool = False  # somebody who declared it is there, so workers_min holds
    priority_pool: int | None = None  # the pool that workers_min belongs to: the last one declared
    name: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the machine has. `memory_mb` 0: not known, no limit."""

    memory_mb: int
    gpus: tuple[int, ...]
    max_workers: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How everything stands at one moment."""

    endpoints: Mapping[int, EndpointView]
    pools: Mapping[int, PoolView]
    workers: tuple[WorkerView, ...]
    capacity: Capacity
    draining: bool = False


# ── what is answered ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class EnsureEnv:
    """Have the pool's environment built."""

    pool: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a worker for the pool, which leases these cards."""

    pool: int
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StopWorker:
    """End a worker that runs nothing."""

    worker: str
    why: Literal["idle", "evicted", "surplus"]


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let a busy worker take nothing new and end after the jobs it has."""

    worker: str
    why: Literal["evicted", "surplus"]


WaitCode = Literal["environment", "backoff", "workers_max", "gpu", "memory", "machine_full"]


@dataclass(frozen=True, slots=True)
class Waits:
    """Nothing can be done for the pool's queued jobs now; `why` is for their callers, `code` for programs."""

    pool: int
    code: WaitCode
    why: str


Action = EnsureEnv | Launch | StopWorker | DrainWorker | Waits


def plan(snapshot: Snapshot) -> list[Action]:
    """What to do now. The same snapshot gives the same actions, in the same order."""
    book = _Book.of(snapshot)
    actions: list[Action] = [*_end_idle(book), *_end_surplus(book)]
    if not snapshot.draining:
        actions += _serve_queues(book)
        actions += _keep_minimum(book)
    return actions


def look_again_ms(snapshot: Snapshot) -> int | None:
    """In how many milliseconds the plan may change by the passing of time alone; None: never."""
    book = _Book.of(snapshot)
    times = [*_idle_times(book), *(_waiting_times(book) if not snapshot.draining else ())]
    return min((time for time in times if time > 0), default=None)


# ── how many workers ──────────────────────────────────────────────────────────────────────────────


def _wanted(pool: _Pool) -> int:
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


# ── the book: who has what, kept up while actions are decided ─────────────────────────────────────


@dataclass(slots=True, eq=False)
class _Room:
    """Some of what workers take up: a place at the endpoint, one at the machine, memory, cards."""

    places: int = 0
    slots: int = 0
    memory: int = 0
    gpus: int = 0

    def enough(self) -> bool:
        return self.places <= 0 and self.slots <= 0 and self.memory <= 0 and self.gpus <= 0


@dataclass(slots=True, eq=False)
class _Endpoint:
    view: EndpointView
    alive: int = 0  # all but the stopping ones; while planning also those on their way
    free: int = 0  # places under workers_max
    coming: int = 0  # places of workers that are stopping
    pools: list[_Pool] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Pool:
    view: PoolView
    endpoint: _Endpoint
    memory: int
    gpus: int
    cards: frozenset[int]  # those that it may have
    alive: int = 0
    manned: bool = False
    idle: list[WorkerView] = field(default_factory=list)
    busy: list[WorkerView] = field(default_factory=list)
    starting: list[WorkerView] = field(default_factory=list)

    @property
    def minimum(self) -> int:
        """The workers that it keeps without work."""
        endpoint = self.endpoint.view
        mine = endpoint.held and endpoint.priority_pool == self.view.id
        return min(endpoint.workers_min, endpoint.workers_max) if mine else 0

    @property
    def hungry_ms(self) -> int:
        """How long it has waited for a (further) worker.

        A pool that just gave way begins anew: its jobs are older, so it would at once take back what it gave.
        """
        view = self.view
        return view.oldest_wait_ms if self.manned else min(view.oldest_wait_ms, view.unmanned_ms)

    def can_launch(self) -> bool:
        return self.view.env == "ready" and self.view.launch_blocked_ms <= 0


@dataclass(slots=True, eq=False)
class _Book:
    endpoints: dict[int, _Endpoint]
    pools: dict[int, _Pool]
    capacity: Capacity
    slots: int  # free now …
    memory: int
    gpus: list[int]
    slots_coming: int = 0  # … and on the way, from workers that are stopping
    memory_coming: int = 0
    gpus_coming: list[int] = field(default_factory=list)
    leases: dict[int, WorkerView] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # ended by this plan

    @classmethod
    def of(cls, snapshot: Snapshot) -> _Book:
        capacity = snapshot.capacity
        endpoints = {number: _Endpoint(view, free=view.workers_max) for number, view in snapshot.endpoints.items()}
        book = cls(endpoints, {}, capacity, max(1, capacity.max_workers), capacity.memory_mb, [])
        for number, view in snapshot.pools.items():
            # What is asked for beyond the machine never comes, so nothing waits for it.
            memory = min(view.memory_mb or 0, capacity.memory_mb)
            cards = frozenset(capacity.gpus if view.cards is None else view.cards).intersection(capacity.gpus)
            gpus = min(view.gpus, len(cards))
            pool = book.pools[number] = _Pool(view, endpoints[view.endpoint], memory, gpus, cards)
            pool.endpoint.pools.append(pool)
        for worker in snapshot.workers:
            book.seat(worker)
        book.gpus = sorted(set(capacity.gpus) - book.leases.keys())
        return book

    def seat(self, worker: WorkerView) -> None:
        """Counts a worker of the snapshot in."""
        pool = self.pools[worker.pool]
        self.memory -= pool.memory
        self.leases.update(dict.fromkeys(worker.gpus, worker))
        if worker.waiting:
            # What it waits for may need a worker of the same endpoint: its place is lent, its memory and cards are not.
            pool.manned = True
            return
        self.slots -= 1
        pool.endpoint.free -= 1
        if worker.state == "stopping":
            self.promise(worker)
            return
        pool.alive += 1
        pool.manned = True
        pool.endpoint.alive += 1
        {"idle": pool.idle, "busy": pool.busy, "starting": pool.starting}[worker.state].append(worker)

    def promise(self, worker: WorkerView) -> None:
        """What the worker takes up will be free."""
        pool = self.pools[worker.pool]
        pool.endpoint.coming += 1
        self.slots_coming += 1
        self.memory_coming += pool.memory
        self.gpus_coming += worker.gpus

    def end(self, worker: WorkerView) -> None:
        """This plan ends the worker."""
        pool = self.pools[worker.pool]
        pool.alive -= 1
        pool.endpoint.alive -= 1
        self.gone.add(worker.id)
        self.promise(worker)

    def fits_now(self, pool: _Pool) -> bool:
        return (
            pool.endpoint.free >= 1
            and self.slots >= 1
            and self.memory >= pool.memory
            and len(_among(self.gpus, pool)) >= pool.gpus
        )

    def lacking(self, pool: _Pool) -> _Room:
        """What a worker of the pool would lack even after those that are stopping are gone."""
        return _Room(
            1 - pool.endpoint.free - pool.endpoint.coming,
            1 - self.slots - self.slots_coming,
            pool.memory - self.memory - self.memory_coming,
            pool.gpus - len(_among(self.gpus, pool)) - len(_among(self.gpus_coming, pool)),
        )

    def take(self, pool: _Pool) -> tuple[int, ...]:
        """Gives a worker of the pool its place: now, or, where something is not free yet, as a reservation.

        A reservation keeps what is free already from pools that come later, so a worker that needs two cards
        is not overtaken for ever by those that need one.
        """
        gpus = _among(self.gpus, pool)[: pool.gpus]
        coming = _among(self.gpus_coming, pool)[: pool.gpus - len(gpus)]
        self.gpus = [gpu for gpu in self.gpus if gpu not in gpus]
        self.gpus_coming = [gpu for gpu in self.gpus_coming if gpu not in coming]
        self.slots -= 1
        self.memory -= pool.memory
        pool.endpoint.free -= 1
        pool.alive += 1
        pool.endpoint.alive += 1
        return tuple(gpus)


def _among(gpus: Sequence[int], pool: _Pool) -> list[int]:
    """Those of the cards that a worker of the pool may have."""
    return [gpu for gpu in gpus if gpu in pool.cards] if pool.gpus else []


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────


def _end_idle(book: _Book) -> Iterator[Action]:
    for pool in book.pools.values():
        timeout = pool.endpoint.view.idle_timeout_ms
        if pool.view.queued or not any(worker.idle_ms >= timeout for worker in pool.idle):
            continue
        for worker in sorted(pool.idle, key=_longest_idle):
            if pool.alive <= pool.minimum or worker.idle_ms < timeout:
                break
            book.end(worker)
            yield StopWorker(worker.id, "idle")


def _end_surplus(book: _Book) -> Iterator[Action]:
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


def _each(endpoint: _Endpoint, state: Literal["idle", "starting", "busy"]) -> Iterator[WorkerView]:
    for pool in endpoint.pools:
        yield from getattr(pool, state)


def _longest_idle(worker: WorkerView) -> tuple[int, str]:
    return -worker.idle_ms, worker.id


def _by_id(worker: WorkerView) -> str:
    return worker.id


# ── queues ────────────────────────────────────────────────────────────────────────────────────────


def _serve_queues(book: _Book) -> Iterator[Action]:
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


def _settle(book: _Book, claims: dict[int, list[tuple[int, int, int]]]) -> Iterator[Action]:
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


def _pool_rank(pool: _Pool) -> tuple[int, int, int]:
    return pool.alive, -pool.hungry_ms, pool.view.id


def _endpoint_rank(endpoint: _Endpoint, ranks: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    return endpoint.alive, ranks[0][1], endpoint.view.id


def _serve(book: _Book, pool: _Pool) -> tuple[bool, list[Action]]:
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


def _make_room(book: _Book, pool: _Pool, lacking: _Room) -> list[WorkerView] | None:
    """The workers to end so that one of the pool has room; [] if room is coming, None if there is none."""
    if lacking.enough():
        return []
    spare = _spare(book, pool)
    if (chosen := _choose(book, pool, spare, lacking)) is not None:
        return chosen
    if pool.hungry_ms < TURN_MS:
        return None
    return _choose(book, pool, [*spare, *_owed(book, pool)], lacking)


def _choose(book: _Book, pool: _Pool, candidates: Iterable[WorkerView], lacking: _Room) -> list[WorkerView] | None:
    """The first of the candidates that together make up for what is lacking; None if all of them do not."""
    chosen: list[WorkerView] = []
    left = replace(lacking)
    for worker in candidates:
        theirs = book.pools[worker.pool]
        cards = _among(worker.gpus, pool)
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


def _spare(book: _Book, pool: _Pool) -> list[WorkerView]:
    """Idle workers that nobody is about to use, the longest idle first, those of a kept minimum last."""
    found: list[tuple[bool, tuple[int, str], WorkerView]] = []
    for other in book.pools.values():
        if other is not pool and other.idle and not other.view.queued:
            kept = other.alive <= other.minimum
            found += [(kept, _longest_idle(worker), worker) for worker in other.idle if worker.id not in book.gone]
    return [worker for _kept, _rank, worker in sorted(found, key=lambda item: item[:2])]


def _owed(book: _Book, pool: _Pool) -> list[WorkerView]:
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


def _has_too_much(other: _Pool, pool: _Pool) -> bool:
    """Whether moving a worker evens their shares out; who has none takes turns with who has one."""
    if other is pool:
        return False
    if other.endpoint is pool.endpoint:
        return pool.alive == 0 or other.alive >= pool.alive + 2
    return pool.endpoint.alive == 0 or other.endpoint.alive >= pool.endpoint.alive + 2


def _why_none(book: _Book, pool: _Pool, lacking: _Room) -> tuple[WaitCode, str]:
    if lacking.places > 0:
        most = pool.endpoint.view.workers_max
        return "workers_max", f"waiting for a worker: workersMax={most} {'is' if most == 1 else 'are'} busy"
    if lacking.gpus > 0:
        return "gpu", f"waiting for a GPU: {_gpu_users(book, pool)}"
    if lacking.memory > 0:
        has = book.capacity.memory_mb
        return "memory", f"waiting for memory: a worker needs {pool.memory} of this machine's {has} MB"
    return "machine_full", f"waiting for a worker: this machine runs {book.capacity.max_workers}, as many as it takes"


def _gpu_users(book: _Book, pool: _Pool) -> str:
    """Such as `GPU 0 is in use by train, GPU 1 by infer`."""
    users: list[str] = []
    for gpu in sorted(pool.cards & book.leases.keys()):
        worker = book.leases[gpu]
        name = book.pools[worker.pool].endpoint.view.name or f"worker {worker.id}"
        users.append(f"GPU {gpu} {'by' if users else 'is in use by'} {name}")
    return ", ".join(users)


# ── workersMin ────────────────────────────────────────────────────────────────────────────────────


def _keep_minimum(book: _Book) -> Iterator[Action]:
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


def _idle_times(book: _Book) -> Iterator[int]:
    for pool in book.pools.values():
        if pool.alive > pool.minimum:
            timeout = pool.endpoint.view.idle_timeout_ms
            yield from (timeout - worker.idle_ms for worker in pool.idle)


def _waiting_times(book: _Book) -> Iterator[int]:
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
