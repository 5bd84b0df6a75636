"""The port of the store: what the engine needs of a database, in words of the queue.

Every write happens inside a transaction that `begin` opens and `commit` or `rollback` closes (the engine's
turn does that); a write that cannot be done raises StoreError and leaves the rest to `rollback`. Reads of the
`read_…` family may run in another thread at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from runpod_flash.engine.store.apps import Apps
from runpod_flash.model.job import JobState


class NewJob(msgspec.Struct, gc=False):
    """A job as it is put on record; `worker` is "" unless a free one has it already."""

    id: str
    pool: int
    fn: int
    state: JobState
    priority: int
    worker: str
    created_ms: int
    timeout_ms: int
    max_retries: int
    awaited: bool
    args: bytes
    args_head: str | None
    ready_ms: int | None
    expires_ms: int | None
    instance: str | None = None
    parent: tuple[str, int] | None = None  # the job that called it, and its attempt


class Claimed(NamedTuple):
    """A job that a worker has been given."""

    seq: int
    priority: int
    id: str
    fn: int
    epoch: int
    attempt: int
    failures: int
    losses: int
    timeout_ms: int
    max_retries: int
    created_ms: int
    args: bytes
    args_head: str | None
    instance: str | None = None
    awaited: int = 1


class LiveJob(NamedTuple):
    """A job that was at a worker when the engine ended."""

    claimed: Claimed
    worker: str
    assigned_ms: int
    cancelling: bool
    expired: bool  # it is being ended because its ttl is over


class Ended(msgspec.Struct, gc=False):
    """How a job ended; written only if `epoch` is still its epoch."""

    seq: int
    epoch: int
    state: JobState
    ended_ms: int
    started_ms: int | None
    failures: int
    losses: int
    out: bytes | None = None
    out_head: bytes | None = None
    out_json: bytes | None = None
    error: bytes | None = None
    timing: bytes | None = None


class Returned(NamedTuple):
    """A job that goes back from its worker to the queue: ready at once or at a time; as guarded as `Ended`."""

    id: str
    epoch: int
    state: JobState
    ready_ms: int
    attempt: int
    failures: int
    losses: int


class Attempt(NamedTuple):
    """An attempt that did not complete its job. `end`: failed | timeout | lost | cancelled | stopped."""

    job: str
    n: int
    epoch: int
    worker: str
    assigned_ms: int
    started_ms: int | None
    ended_ms: int
    end: str
    error: bytes | None


class StoredChunk(NamedTuple):
    """The `n`-th item that the last attempt of a job yielded; `head` says more of it where there is more to say."""

    n: int
    head: str | None
    body: bytes


class WorkerRow(NamedTuple):
    """A worker that was not on record as ended."""

    id: str
    pool: int
    host: str
    key_hash: str
    gpus: tuple[int, ...]
    launched_ms: int
    ready: bool


class Log(Protocol):
    """Where commits are until they are moved into the store's file."""

    def sync(self) -> None:
        """Waits until everything committed survives a power cut; may be called from another thread."""

    def checkpoint(self) -> None:
        """Moves it into the file; from another thread, off every reply's path."""

    def wants_checkpoint(self) -> bool:
        """Whether enough was written since the last time that this was true."""

    def end_checkpoint(self) -> None:
        """Moves what was written during `checkpoint`, on the writing connection: little, and the log begins anew."""

    def size(self) -> int:
        """Bytes that no checkpoint has moved yet, or that wait to be written over."""

    def shrink(self) -> None:
        """A checkpoint at once, on the writing connection: for a load that leaves the other thread no gap."""


class Store(Protocol):
    """One store, open for one engine."""

    engine_id: str
    secret: bytes
    start_no: int
    last_wall_ms: int
    durability: str
    apps: Apps

    @property
    def log(self) -> Log:
        """What was committed lately."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...

    # declarations
    def save_endpoint(self, public_id: str, spec: bytes, now_ms: int) -> int: ...
    def save_pool(self, endpoint: int, key: str, spec: bytes, now_ms: int) -> int: ...
    def save_function(self, pool: int, name: str, version: str, digest: str, spec: bytes, now_ms: int) -> int: ...
    def declarations(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """(id, spec) of endpoints, (id, endpoint, key, spec) of pools, (id, pool, spec) of functions."""

    def save_definition(self, digest: str, name: str, body: bytes, now_ms: int) -> None: ...
    def definition(self, digest: str) -> bytes | None: ...
    # What nobody uses any more; each takes only what is still so, and the first two say which that were.
    def drop_functions(self, functions: Sequence[int], before_ms: int, newest: int) -> list[int]:
        """Functions that were declared last before then, and have no job after that number."""

    def drop_pools(self, pools: Sequence[int], before_ms: int) -> list[int]:
        """Pools that were declared last before then, and have no function left."""

    def drop_endpoint(self, endpoint: int) -> None: ...
    def drop_definitions(self, digests: Sequence[str], before_ms: int) -> None: ...
    def missing_definitions(self, digests: Sequence[str]) -> list[str]: ...

    # the queue
    def put(self, job: NewJob) -> int | None:
        """The number of the new job; None if one of this id is on record already, and nothing is changed then."""

    # Claims number themselves: `live` lists the jobs of a worker in the order of these numbers.
    def claim(self, pool: int, worker: str, now_ms: int) -> Claimed | None: ...
    def claim_apart(
        self, pool: int, worker: str, now_ms: int, mine: str, elsewhere: str, homeless: bool
    ) -> Claimed | None:
        """The same, of the jobs that this worker may have; `mine` and `elsewhere` are JSON lists of instances.

        That is: of no instance, of one of `mine`, or, if `homeless`, of one that is not `elsewhere`.
        """

    def claim_ahead(self, pool: int, fn: int, worker: str, now_ms: int, limit: int) -> list[Claimed]: ...
    def finish(self, ended: Ended) -> bool: ...
    def finish_waiting(self, job: str, state: JobState, now_ms: int, error: bytes) -> bool: ...
    def back(self, returned: Returned) -> bool: ...
    def add_attempt(self, attempt: Attempt) -> None: ...
    def losses_of(self, job: str) -> list[bytes]:
        """The errors of the attempts that were lost, oldest first."""

    def due(self, now_ms: int) -> list[tuple[int, int, str]]:
        """Delayed jobs become ready: the pool of each, the bytes of its arguments, and the instance or ""."""

    def expired(self, now_ms: int) -> list[str]: ...
    def next_times(self) -> tuple[int | None, int | None]: ...
    def live(self) -> list[LiveJob]: ...
    def waiting(self) -> list[tuple[int, str, int, int]]:
        """Pool, instance or "", number and bytes of the ready jobs."""

    def awaited_below(self) -> list[tuple[str, str]]: ...
    def oldest(self, pool: int) -> int | None: ...
    def of_usual_priority(self, pool: int, limit: int) -> int:
        """How many ready jobs of a pool are not of low priority, as far as the limit."""

    def pools_of_low_priority(self) -> list[int]: ...
    def waiting_ids(self, pool: int, limit: int) -> list[str]: ...
    def job(self, job: str) -> dict[str, Any] | None: ...
    def told(self, job: str) -> dict[str, Any] | None:
        """The same without its arguments, which may be large: for those who ask how it stands."""

    def request_cancel(self, job: str, now_ms: int) -> None: ...
    def again(self, job: str) -> bool: ...
    def outdated(self, now_ms: int, most: int) -> list[str]:
        """Jobs that were kept long enough, at most so many. Runs in the reading thread."""

    def forget(self, jobs: Sequence[str], now_ms: int) -> list[str]:
        """Removes those of the jobs that had ended by then, and old events: the blobs that they named."""

    def drop_blobs(self, job: str, blobs: Sequence[str]) -> list[str]:
        """Those of the blobs that a job named and, having completed, needs no more; another may be tried again."""

    def unneeded(self, blobs: Sequence[str]) -> list[str]:
        """Those of the blobs that no job names."""

    def say_progress(self, job: str, progress: str) -> None: ...
    def give(self, job: str, items: int) -> None:
        """So many of the items of a job were given to who keeps no position of their own."""

    # Whom to tell of the end of a job, by HTTP.
    def add_webhook(self, job: str, url: str) -> bool:
        """Whoever listens there is to be told; True if there was an earlier end to be told of, which is forgotten."""

    def webhook(self, job: str) -> str | None:
        """Where to."""

    def webhooks_ahead(self) -> list[str]:
        """Jobs that have not ended, and have one."""

    def webhooks_pending(self) -> int:
        """How many are to be told, now or later."""

    def webhook_due(self, job: str, due_ms: int) -> None: ...
    def webhook_tried(self, job: str, due_ms: int | None, tries: int, error: str) -> bool:
        """When it is to be told again; None: it was told, or that was given up. False if it is not due any more."""

    def webhooks_due(self, limit: int) -> list[tuple[str, str, int, int]]:
        """Job, URL, when and after how many tries, the first ones first."""

    def add_chunk(self, job: str, chunk: StoredChunk) -> None: ...
    def chunks(self, job: str, first: int, limit: int) -> list[StoredChunk]:
        """The items of a job from that number on."""

    def chunk_count(self, job: str) -> int:
        """The number after the last item of a job that is on record; 0 if there is none."""

    def drop_chunks(self, job: str, before: int) -> list[str]:
        """Removes the items before that number: the blobs that they named."""

    def idempotent(self, endpoint: int, key: str) -> str | None: ...
    def remember_idempotent(self, endpoint: int, key: str, job: str) -> None: ...
    def add_blobs(self, job: str, blobs: Iterable[tuple[int, str, int]]) -> None: ...
    def add_event(
        self, kind: str, now_ms: int, data: str, *, job: str | None = None, endpoint: int | None = None
    ) -> None: ...
    def add_span(self, span: tuple[str, int, str, str, int, int, int, bool]) -> None: ...

    # hosts and workers
    def add_host(self, host: str, key_hash: str, pid: int, machine: str, now_ms: int) -> None: ...
    def end_host(self, host: str, now_ms: int) -> None: ...
    def open_hosts(self) -> list[tuple[str, str, int]]:
        """(id, key hash, pid) of hosts that are not on record as ended."""

    def add_worker(self, worker: str, pool: int, host: str, key_hash: str, gpus: str, now_ms: int) -> None: ...
    def worker_ready(self, worker: str, now_ms: int) -> None: ...
    def end_worker(self, worker: str, end: str, now_ms: int) -> None: ...
    def open_workers(self) -> list[WorkerRow]: ...

    # reading, from another thread
    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]: ...
