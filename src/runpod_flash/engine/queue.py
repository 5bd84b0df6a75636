"""Jobs that wait: put on record, expired, cancelled, tried again, or ended because they can never start.

`attempts.py` has those that are at a worker. Every change of state is committed by the turn before anybody hears
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from runpod_flash.engine import homes
from runpod_flash.engine.dispatcher import JSON, PLAIN, Dispatcher
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.lineage import CALLER_ENDED
from runpod_flash.engine.outcomes import expired_error, outcome_of
from runpod_flash.engine.records import Active, Function, Pool, Worker
from runpod_flash.engine.state import MAX_WAITING, MAX_WAITING_BYTES, ArgsHead, State
from runpod_flash.engine.store.rows import NewJob
from runpod_flash.engine.streams import Streams
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError, QueueFull
from runpod_flash.model.job import USUAL_POLICY, ErrorKind, JobState, check_policy
from runpod_flash.wire import blobs, frame, kinds
from runpod_flash.wire.messages import Accepted, ErrorInfo, Moved, Position, Submit

_encode = msgspec.json.encode
_HIGHEST: Final = 1 << 48  # milliseconds: nine thousand years
_LONGEST_ID: Final = 64  # what the worker's status page holds
_SLICE: Final = 200
_new = tuple.__new__
# A member of an enumeration is looked for at length, and to the store it is not simply a number.
_READY, _DELAYED, _ASSIGNED, _RUNNING = map(
    int, (JobState.READY, JobState.DELAYED, JobState.ASSIGNED, JobState.RUNNING)
)
_JSON: Final = _encode(JSON).decode()


class Queue:
    """Puts jobs on record, and ends those that wait."""

    def __init__(self, state: State, dispatcher: Dispatcher, followers: Followers, streams: Streams) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._followers = followers
        self._streams = streams
        self.expire_at_worker: Callable[[Active], None] = lambda job: None  # set by those who do it

    # ── in ────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, link: Link, sid: int, fn: Function, head: Submit, parts: Sequence[bytes]) -> None:
        """Puts a call on record, at a worker at once where one is free, and answers or follows."""
        _check(head)
        if head.blobs:
            check_blobs(self._state, head.blobs)
        if head.idem is not None and self._follow_instead(link, sid, self._with_key(fn, head.idem), head):
            return
        if not self.enter(fn, head, parts):
            self._follow_instead(link, sid, head.job, head)
            return
        if head.wait and head.parent is not None:
            self._state.lineage.awaits(head.parent[0], head.job)
        if head.wait and head.stream is not None:
            self.attach(link, sid, head.job, logs=head.logs, position=head.stream, owner=True)
        elif head.wait:
            self._followers.add(head.job, link, sid, logs=head.logs)
        else:
            self._state.turn.promise(link, Accepted(job=head.job).encode(sid=sid, flags=kinds.END))

    def enter(self, fn: Function, head: Submit, parts: Sequence[bytes]) -> bool:
        """Puts a new job on record, at a worker at once where one is free; False if one of its id is there already.

        Nobody follows it yet; whoever does so in this turn misses nothing. QueueFull.
        """
        target, state = self._place(fn, head)
        if target is None and self._is_full(fn.pool):
            # Sent again after a lost link, it is no new job.
            if self._state.store.job(head.job) is not None:
                return False
            raise _queue_full(fn.pool)
        args = _args_head_of(head)
        job = self._put(fn, head, frame.pack_parts(parts), args, target, state)
        if job is None:
            return False
        if target is not None:
            self._dispatcher.assign(target, job, args, parts)
        else:
            self._state.replan()
        return True

    def _place(self, fn: Function, head: Submit) -> tuple[Worker | None, int]:
        """The worker that gets a new job at once, if any, and the state that the job has then."""
        policy = head.policy
        if policy.delay_ms:
            return None, _DELAYED
        if self._state.draining:
            return None, _READY
        if head.instance:
            worker = self._dispatcher.free_home(fn, head.instance)
            return worker, _RUNNING if worker else _READY
        pool = fn.pool
        if pool.queued and homes.unclaimed(pool):
            return None, _READY
        if (pool.idle or pool.asks) and (worker := self._dispatcher.free(fn)):
            return worker, _RUNNING
        # Not behind a call that may be the one that waits for it.
        if head.parent is None and policy.max_retries and (worker := self._dispatcher.busy_with(fn)):
            return worker, _ASSIGNED
        return None, _READY

    def _put(
        self, fn: Function, head: Submit, packed: bytearray, args: ArgsHead, worker: Worker | None, state: int
    ) -> Active | None:
        """The new job, on record; None if there is one of this id."""
        now, policy, pool = self._state.clock.wall_ms(), head.policy, fn.pool
        priority, instance, above = policy.priority, head.instance, head.parent
        if above is not None:
            priority += self._urgency(head, above[0])
        new = _new(  # what NewJob(…) does, without a Python function in between
            NewJob,
            (
                head.job,
                pool.id,
                fn.id,
                state,
                priority,
                worker.id if worker else "",
                now,
                policy.timeout_ms,
                policy.max_retries,
                1 if head.wait else 0,
                packed,
                None if args is PLAIN else _JSON if args is JSON else _encode(args).decode(),
                now + policy.delay_ms if policy.delay_ms else None,
                now + policy.ttl_ms if policy.ttl_ms is not None else None,
                instance or None,
                above,
            ),
        )
        store = self._state.turn.write()
        seq = store.put(new)
        if seq is None:
            return None
        if head.idem is not None:
            store.remember_idempotent(pool.endpoint.id, head.idem, head.job)
        if args.blobs:
            store.add_blobs(head.job, args.blobs)
        if state == _READY:
            pool.enter(len(packed), instance)
        if policy is not USUAL_POLICY:
            self._wake_for(new)
        return Active(
            job=head.job,
            fn=fn,
            epoch=1,
            attempt=1,
            failures=0,
            losses=0,
            timeout_ms=policy.timeout_ms,
            max_retries=policy.max_retries,
            created_ms=now,
            assigned_ms=now,
            size=len(packed),
            seq=seq,
            instance=instance,
            priority=priority,
            stream=args.stream,
            awaited=head.wait,
        )

    def _urgency(self, head: Submit, caller: str) -> int:
        """What goes on top of a job's priority: one that a worker waits for comes before those nobody has begun.

        Else a queue of calls that call their own endpoint would be begun, and wait, one and all.
        """
        if not head.wait:
            return 0
        above = self._state.active.get(caller)
        return 1 + (max(0, above.priority) if above is not None else 0)

    def _wake_for(self, new: NewJob) -> None:
        if new.ready_ms is not None:
            self._state.wake_at(new.ready_ms)
        if new.expires_ms is not None:
            self._state.wake_at(new.expires_ms)

    def _with_key(self, fn: Function, key: str) -> str:
        """The job that has this idempotency key; "" if there is none."""
        return self._state.store.idempotent(fn.pool.endpoint.id, key) or ""

    def _is_full(self, pool: Pool) -> bool:
        endpoint = pool.endpoint
        waiting = sum(each.queued for each in endpoint.pools)
        return waiting >= MAX_WAITING or endpoint.args_bytes >= MAX_WAITING_BYTES

    # ── who wants to know ─────────────────────────────────────────────────────────────────────────

    def _follow_instead(self, link: Link, sid: int, job: str, head: Submit) -> bool:
        """Answers a SUBMIT with the job that there is already; False if there is none."""
        if head.wait:
            return self.attach(link, sid, job, logs=head.logs, position=head.stream, owner=True)
        if self._state.store.job(job) is None:
            return False
        self._state.turn.promise(link, Accepted(job=job, existing=True).encode(sid=sid, flags=kinds.END))
        return True

    def attach(
        self, link: Link, sid: int, job: str, *, logs: bool, position: Position | None = None, owner: bool = False
    ) -> bool:
        """Follows a job on record, or answers at once if it has ended; False if there is none.

        With a position it also reads what the job yields, and is answered after the last item.
        """
        row = self._state.store.job(job)
        if row is None:
            return False
        reader = self._streams.read(link, sid, row, position, owner=owner) if position is not None else None
        if not JobState(row["state"]).is_terminal:
            self._followers.add(job, link, sid, logs=logs, reader=reader)
            return True
        head, parts = outcome_of(row)
        data = head.encode(parts, sid=sid, flags=kinds.END)
        if reader is not None and reader.behind:
            reader.outcome = data
        else:
            self._state.turn.promise(link, data)
            self._streams.ended(job)
        return True

    # ── the end of waiting ────────────────────────────────────────────────────────────────────────

    def cancel(self, row: dict[str, Any], cause: str) -> None:
        """A job that waits ends, because somebody asked for it."""
        error = ErrorInfo(
            type="JobCancelled",
            module="runpod_flash.errors",
            message=f"cancelled: {cause}",
            kind=ErrorKind.CANCELLED,
        )
        self._end(row, JobState.CANCELLED, error)

    def fail(self, job: str, error: ErrorInfo) -> None:
        """One job that waits ends, because it cannot start."""
        if row := self._state.turn.write().job(job):
            self._end(row, JobState.FAILED, error)

    def fail_waiting(self, pool: Pool, error: ErrorInfo) -> None:
        """Every waiting job of a pool ends, because none of them can start; a slice of them in each turn."""
        pool.failing = True
        store = self._state.turn.write()
        ids = store.waiting_ids(pool.id, _SLICE)
        for job in ids:
            if row := store.job(job):
                self._end(row, JobState.FAILED, error)
        if len(ids) == _SLICE:
            self._state.call_later(0, self._fail_more, pool, error)
        else:
            pool.failing = False

    def _fail_more(self, pool: Pool, error: ErrorInfo) -> None:
        if self._state.pools.get(pool.id) is pool:
            self.fail_waiting(pool, error)

    def expire(self) -> None:
        """Jobs whose ttl is over end, wherever they are."""
        now = self._state.clock.wall_ms()
        store = self._state.turn.write()
        for job in store.expired(now):
            if live := self._state.active.get(job):
                self.expire_at_worker(live)
            elif row := store.job(job):
                waited = (now - row["created_ms"]) / 1000
                what = "waited to be tried again" if row["attempt"] else "waited for a worker"
                self._end(
                    row, JobState.TIMED_OUT, expired_error(f"it still {what} {waited:.1f} s after it was submitted")
                )

    def _end(self, row: dict[str, Any], state: JobState, error: ErrorInfo) -> None:
        now, told = self._state.clock.wall_ms(), _encode(error)
        if not self._state.turn.write().finish_waiting(row["id"], state, now, told):
            return
        pool = self._state.pools.get(row["pool_id"])
        if pool is not None and row["state"] == JobState.READY:
            pool.leave(len(row["args"] or b""), row["instance"] or "")
        head, parts = outcome_of({**row, "state": int(state), "ended_ms": now, "error": told})
        self._followers.outcome(head, parts)
        self._streams.ended(row["id"])
        self._state.lineage.ended(row["id"], CALLER_ENDED)

    # ── back in line ──────────────────────────────────────────────────────────────────────────────

    def release_due(self) -> None:
        """Delayed jobs whose time has come become ready."""
        for pool_id, size, instance in self._state.turn.write().due(self._state.clock.wall_ms()):
            pool = self._state.pools[pool_id]
            pool.enter(size, instance)
            self._dispatcher.serve(pool)
        self._state.replan()

    def again(self, row: dict[str, Any]) -> bool:
        """A job that failed or timed out runs once more; False if it did not."""
        if not self._state.turn.write().again(row["id"]):
            return False
        if row["args_head"]:
            self._streams.begin_again(row["id"])
        self._state.event("retry", {"by": "user"}, job=row["id"])
        pool = self._state.pools[row["pool_id"]]
        pool.enter(len(row["args"] or b""), row["instance"] or "")
        self._dispatcher.serve(pool)
        self._state.replan()
        return True


def _args_head_of(head: Submit) -> ArgsHead:
    if head.stream is not None:
        return ArgsHead(head.encoding, head.blobs, head.defs, "live" if head.wait else "kept")
    if head.encoding == "json" and not head.blobs:
        return JSON
    return ArgsHead(head.encoding, head.blobs, head.defs) if head.blobs or head.defs else PLAIN


class _BadCall(FlashError):
    code = "bad_request"


class _NoBlob(FlashError):
    code = "no_blob"


def _check(head: Submit) -> None:
    """Refuses what the store or a status page could not hold."""
    policy = head.policy
    if policy is not USUAL_POLICY:
        check_policy(policy)
        if max(policy.timeout_ms, policy.delay_ms, policy.ttl_ms or 0, policy.max_retries) >= _HIGHEST:
            raise _BadCall(
                f"the policy of this call is beyond any measure: {policy}",
                why=f"times, in milliseconds, and retries have to be below {_HIGHEST}",
            )
    job = head.job
    if not (0 < len(job) <= _LONGEST_ID and job.isascii()):
        raise _BadCall(f"{head.job[:80]!r} cannot be the id of a job", why=f"1 to {_LONGEST_ID} ASCII characters")


def check_blobs(state: State, moved: Sequence[Moved]) -> None:
    """The files that a call names have to be there in the turn that takes it; a job keeps them from then on."""
    for _index, blob, _size in moved:
        if not blobs.is_id(blob):
            raise _BadCall(f"{blob!r} is no blob id", why="blobs are named by 32 hexadecimal digits")
    if missing := blobs.missing(state.settings.home / "blobs", moved):
        raise _NoBlob(
            f"{len(missing)} of {len(moved)} files with large arguments of a call are not there",
            why=f"{missing[0]} was removed, is not whole, or was written where the engine cannot see it",
            fix="call again; if that does not help, see that program and engine have the same FLASH_HOME",
        )


def _queue_full(pool: Pool) -> QueueFull:
    endpoint = pool.endpoint
    waiting = sum(each.queued for each in endpoint.pools)
    return QueueFull(
        f"the endpoint {endpoint.spec.name!r} has {waiting} waiting {'job' if waiting == 1 else 'jobs'}"
        f" with {endpoint.args_bytes >> 20} MiB of arguments",
        why=f"at most {MAX_WAITING} jobs and {MAX_WAITING_BYTES >> 20} MiB may wait",
        fix="wait, raise workersMax, or cancel some (flash jobs --status IN_QUEUE)",
        retry_after_ms=1000,
    )
