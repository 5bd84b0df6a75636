"""The book of the plan: who has what, kept up while it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runpod_flash.engine.views import Capacity, EndpointView, PoolView, Snapshot, WorkerView


@dataclass(slots=True, eq=False)
class Room:
    """Some of what workers take up: a place at the endpoint, one at the machine, memory, cards."""

    places: int = 0
    slots: int = 0
    memory: int = 0
    gpus: int = 0

    def enough(self) -> bool:
        """Whether nothing is missing any more."""
        return self.places <= 0 and self.slots <= 0 and self.memory <= 0 and self.gpus <= 0


@dataclass(slots=True, eq=False)
class EndpointBook:
    """One endpoint: its places under workers_max."""

    view: EndpointView
    alive: int = 0  # all but the stopping ones; while planning also those on their way
    free: int = 0  # places under workers_max
    coming: int = 0  # places of workers that are stopping
    pools: list[PoolBook] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class PoolBook:
    """One pool: what a worker of it needs, and those that it has."""

    view: PoolView
    endpoint: EndpointBook
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
        """Whether its environment is there, and no start of it has failed a moment ago."""
        return self.view.env == "ready" and self.view.launch_blocked_ms <= 0


@dataclass(slots=True, eq=False)
class Book:
    """All of it, and what is free of the machine now or soon."""

    endpoints: dict[int, EndpointBook]
    pools: dict[int, PoolBook]
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
    def of(cls, snapshot: Snapshot) -> Book:
        """The book of one moment."""
        capacity = snapshot.capacity
        endpoints = {number: EndpointBook(view, free=view.workers_max) for number, view in snapshot.endpoints.items()}
        book = cls(endpoints, {}, capacity, max(1, capacity.max_workers), capacity.memory_mb, [])
        for number, view in snapshot.pools.items():
            # What is asked for beyond the machine never comes, so nothing waits for it.
            memory = min(view.memory_mb or 0, capacity.memory_mb)
            cards = frozenset(capacity.gpus if view.cards is None else view.cards).intersection(capacity.gpus)
            gpus = min(view.gpus, len(cards))
            pool = book.pools[number] = PoolBook(view, endpoints[view.endpoint], memory, gpus, cards)
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

    def fits_now(self, pool: PoolBook) -> bool:
        """Whether a worker more of it could be started at once."""
        return (
            pool.endpoint.free >= 1
            and self.slots >= 1
            and self.memory >= pool.memory
            and len(among(self.gpus, pool)) >= pool.gpus
        )

    def lacking(self, pool: PoolBook) -> Room:
        """What a worker of the pool would lack even after those that are stopping are gone."""
        return Room(
            1 - pool.endpoint.free - pool.endpoint.coming,
            1 - self.slots - self.slots_coming,
            pool.memory - self.memory - self.memory_coming,
            pool.gpus - len(among(self.gpus, pool)) - len(among(self.gpus_coming, pool)),
        )

    def take(self, pool: PoolBook) -> tuple[int, ...]:
        """Gives a worker of the pool its place: now, or, where something is not free yet, as a reservation.

        A reservation keeps what is free already from pools that come later, so a worker that needs two cards
        is not overtaken for ever by those that need one.
        """
        gpus = among(self.gpus, pool)[: pool.gpus]
        coming = among(self.gpus_coming, pool)[: pool.gpus - len(gpus)]
        self.gpus = [gpu for gpu in self.gpus if gpu not in gpus]
        self.gpus_coming = [gpu for gpu in self.gpus_coming if gpu not in coming]
        self.slots -= 1
        self.memory -= pool.memory
        pool.endpoint.free -= 1
        pool.alive += 1
        pool.endpoint.alive += 1
        return tuple(gpus)


def among(gpus: Sequence[int], pool: PoolBook) -> list[int]:
    """Those of the cards that a worker of the pool may have."""
    return [gpu for gpu in gpus if gpu in pool.cards] if pool.gpus else []
