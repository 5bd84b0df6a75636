"""What the engine hands to the store and gets from it: jobs, attempts and workers as values, without behaviour."""

from __future__ import annotations

from typing import NamedTuple

from runpod_flash.model.job import JobState


class NewJob(NamedTuple):
    """A job as it is put on record, in the order of the statements; `worker` is "" unless one has it already."""

    id: str
    pool: int
    fn: int
    state: int
    priority: int
    worker: str
    created_ms: int
    timeout_ms: int
    max_retries: int
    awaited: int
    args: bytes | bytearray
    args_head: str | None = None
    # What few jobs have.
    ready_ms: int | None = None
    expires_ms: int | None = None
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


class Ended(NamedTuple):
    """How a job ended; written only if `epoch` is still its epoch. In the order of the statements."""

    seq: int
    epoch: int
    ended_ms: int
    started_ms: int | None
    out: bytes | bytearray | None
    out_head: bytes | bytearray | None
    state: JobState
    # What a job that completed seldom has.
    out_json: bytes | None = None
    timing: bytes | None = None
    error: bytes | None = None
    failures: int = 0
    losses: int = 0


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
