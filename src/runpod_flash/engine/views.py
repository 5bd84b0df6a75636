"""What the plan is given, and what it answers: how things stand at one moment, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runpod_flash.model.endpoint import ScalerKind

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
