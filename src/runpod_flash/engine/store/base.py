"""The port of the store: what the engine needs of a database, in words of the queue.

Every write happens inside a transaction that `begin` opens and `commit` or `rollback` closes (the engine's
turn does that); a write that cannot be done raises StoreError and leaves the rest to `rollback`. Reads of the
`read_…` family may run in another thread at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from runpod_flash.engine.store.apps import Apps
from runpod_flash.engine.store.rows import Attempt, Claimed, Ended, LiveJob, NewJob, Returned, StoredChunk, WorkerRow
from runpod_flash.model.job import JobState


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

    def begin(self) -> None:
        """Opens the one transaction there is."""

    def commit(self) -> None:
        """Makes everything since `begin` last; StoreError if it cannot be, and `rollback` follows."""

    def rollback(self) -> None:
        """Undoes everything since `begin`; does nothing where no transaction is open."""

    def close(self) -> None:
        """Lets go of the files, once nothing is read any more."""

    # declarations
    def save_endpoint(self, public_id: str, spec: bytes, now_ms: int) -> int:
        """The number of the endpoint of that id, which is declared now."""

    def save_pool(self, endpoint: int, key: str, spec: bytes, now_ms: int) -> int:
        """The same of a pool of that key."""

    def save_function(self, pool: int, name: str, version: str, digest: str, spec: bytes, now_ms: int) -> int:
        """The same of a function; another version or digest is another function."""

    def declarations(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """(id, spec) of endpoints, (id, endpoint, key, spec) of pools, (id, pool, spec) of functions."""

    def save_definition(self, digest: str, name: str, body: bytes, now_ms: int) -> None:
        """Keeps the bytes that have that digest."""

    def definition(self, digest: str) -> bytes | None:
        """Those bytes; None if nobody has sent them."""

    # What nobody uses any more; each takes only what is still so, and the first two say which that were.
    def drop_functions(self, functions: Sequence[int], before_ms: int, newest: int) -> list[int]:
        """Functions that were declared last before then, and have no job after that number."""

    def drop_pools(self, pools: Sequence[int], before_ms: int) -> list[int]:
        """Pools that were declared last before then, and have no function left."""

    def drop_endpoint(self, endpoint: int) -> None:
        """Forgets an endpoint that has no pool left."""

    def drop_definitions(self, digests: Sequence[str], before_ms: int) -> None:
        """Forgets those of the definitions that were sent last before then."""

    def missing_definitions(self, digests: Sequence[str]) -> list[str]:
        """Those that nobody has sent, in their order."""

    # the queue
    def put(self, job: NewJob) -> int | None:
        """The number of the new job; None if one of this id is on record already, and nothing is changed then."""

    # Claims number themselves: `live` lists the jobs of a worker in the order of these numbers.
    def claim(self, pool: int, worker: str, now_ms: int) -> Claimed | None:
        """The ready job of a pool that is next, now that worker's; None if there is none."""

    def claim_apart(
        self, pool: int, worker: str, now_ms: int, mine: str, elsewhere: str, homeless: bool
    ) -> Claimed | None:
        """The same, of the jobs that this worker may have; `mine` and `elsewhere` are JSON lists of instances.

        That is: of no instance, of one of `mine`, or, if `homeless`, of one that is not `elsewhere`.
        """

    def claim_ahead(self, pool: int, fn: int, worker: str, now_ms: int, limit: int) -> list[Claimed]:
        """Ready jobs of one function, at most so many, to wait at a worker that is busy."""

    def finish(self, ended: Ended) -> bool:
        """A job at a worker ends; False, and nothing is changed, if the epoch is not its own any more."""

    def finish_waiting(self, job: str, state: JobState, now_ms: int, error: bytes) -> bool:
        """A job that waits ends; False if it does not wait any more."""

    def back(self, returned: Returned) -> bool:
        """A job at a worker waits again; False as for `finish`."""

    def add_attempt(self, attempt: Attempt) -> None:
        """Puts an attempt on record that did not complete its job."""

    def losses_of(self, job: str) -> list[bytes]:
        """The errors of the attempts that were lost, oldest first."""

    def due(self, now_ms: int) -> list[tuple[int, int, str]]:
        """Delayed jobs become ready: the pool of each, the bytes of its arguments, and the instance or ""."""

    def expired(self, now_ms: int) -> list[str]:
        """Jobs whose ttl is over, but for those that are being ended."""

    def next_times(self) -> tuple[int | None, int | None]:
        """When the next delayed job is due, and when the next ttl is over, in wall milliseconds."""

    def live(self) -> list[LiveJob]:
        """Jobs that are at workers, those of a worker in the order in which it was sent them."""

    def waiting(self) -> list[tuple[int, str, int, int]]:
        """Pool, instance or "", number and bytes of the ready jobs."""

    def awaited_below(self) -> list[tuple[str, str]]:
        """Jobs that have not ended and that another one awaits, each with that one."""

    def oldest(self, pool: int) -> int | None:
        """Since when the job of a pool that is next has waited, in wall milliseconds; None if none is ready."""

    def of_usual_priority(self, pool: int, limit: int) -> int:
        """How many ready jobs of a pool are not of low priority, as far as the limit."""

    def pools_of_low_priority(self) -> list[int]:
        """Pools in which ready jobs of low priority wait."""

    def waiting_ids(self, pool: int, limit: int) -> list[str]:
        """The next ready jobs of a pool, at most so many."""

    def job(self, job: str) -> dict[str, Any] | None:
        """All columns of a job; None if it is not on record."""

    def told(self, job: str) -> dict[str, Any] | None:
        """The same without its arguments, which may be large: for those who ask how it stands."""

    def request_cancel(self, job: str, now_ms: int) -> None:
        """Puts on record that a job at a worker shall end."""

    def again(self, job: str) -> bool:
        """A job that failed or timed out waits again; False if it did not."""

    def outdated(self, now_ms: int, most: int) -> list[str]:
        """Jobs that were kept long enough, at most so many. Runs in the reading thread."""

    def forget(self, jobs: Sequence[str], now_ms: int) -> list[str]:
        """Removes those of the jobs that had ended by then, and old events: the blobs that they named."""

    def drop_blobs(self, job: str, blobs: Sequence[str]) -> list[str]:
        """Those of the blobs that a job named and, having completed, needs no more; another may be tried again."""

    def unneeded(self, blobs: Sequence[str]) -> list[str]:
        """Those of the blobs that no job names."""

    def say_progress(self, job: str, progress: str) -> None:
        """Keeps what a job said last of how far it is, as JSON."""

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

    def webhook_due(self, job: str, due_ms: int) -> None:
        """It is to be told then."""

    def webhook_tried(self, job: str, due_ms: int | None, tries: int, error: str) -> bool:
        """When it is to be told again; None: it was told, or that was given up. False if it is not due any more."""

    def webhooks_due(self, limit: int) -> list[tuple[str, str, int, int]]:
        """Job, URL, when and after how many tries, the first ones first."""

    def add_chunk(self, job: str, chunk: StoredChunk) -> None:
        """Keeps an item of a job."""

    def chunks(self, job: str, first: int, limit: int) -> list[StoredChunk]:
        """The items of a job from that number on."""

    def chunk_count(self, job: str) -> int:
        """The number after the last item of a job that is on record; 0 if there is none."""

    def drop_chunks(self, job: str, before: int) -> list[str]:
        """Removes the items before that number: the blobs that they named."""

    def idempotent(self, endpoint: int, key: str) -> str | None:
        """The job that was submitted under that key; None if there was none."""

    def remember_idempotent(self, endpoint: int, key: str, job: str) -> None:
        """It was this one."""

    def add_blobs(self, job: str, blobs: Iterable[tuple[int, str, int]]) -> None:
        """A job names these files: (index of the part, id, bytes)."""

    def add_event(
        self, kind: str, now_ms: int, data: str, *, job: str | None = None, endpoint: int | None = None
    ) -> None:
        """Puts on record what no column tells; `data` is JSON."""

    def add_span(self, span: tuple[str, int, str, str, int, int, int, bool]) -> None:
        """Where output is: job, attempt, worker, log file, first byte, bytes, lines, whether it was cut."""

    # hosts and workers
    def add_host(self, host: str, key_hash: str, pid: int, machine: str, now_ms: int) -> None:
        """A host was started; `machine` is JSON."""

    def end_host(self, host: str, now_ms: int) -> None:
        """It is gone."""

    def open_hosts(self) -> list[tuple[str, str, int]]:
        """(id, key hash, pid) of hosts that are not on record as ended."""

    def add_worker(self, worker: str, pool: int, host: str, key_hash: str, gpus: str, now_ms: int) -> None:
        """A worker is about to be started; `gpus` are the numbers of its cards, as JSON."""

    def worker_ready(self, worker: str, now_ms: int) -> None:
        """It is there; only the first time counts."""

    def end_worker(self, worker: str, end: str, now_ms: int) -> None:
        """It is gone, and why."""

    def open_workers(self) -> list[WorkerRow]:
        """Those that are not on record as gone."""

    # reading, from another thread
    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows by column; StoreError if they cannot be read."""
