"""The life of a job: put, done, failed, lost, cancelled, expired, tried again.

Every change of state goes through here, is guarded by the attempt's epoch, and is committed by the turn before
anybody hears of it.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from runpod_flash.engine.dispatcher import PLAIN, Dispatcher
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.records import Active, Function, Pool, Worker
from runpod_flash.engine.state import MAX_WAITING, MAX_WAITING_BYTES, ArgsHead, OutHead, State
from runpod_flash.engine.store.base import Attempt, Claimed, Ended, NewJob
from runpod_flash.engine.turn import Link
from runpod_flash.errors import QueueFull
from runpod_flash.model.job import ErrorKind, JobPolicy, JobState, Next, after_failure, after_loss
from runpod_flash.wire import frame
from runpod_flash.wire.messages import Accepted, Cancel, Done, ErrorInfo, Exited, Outcome, Submit

_encode = msgspec.json.encode
_out_head = msgspec.json.Decoder(OutHead)
_error = msgspec.json.Decoder(ErrorInfo)
_CANCEL_GRACE_MS: Final = 5000
_RUN_MEAN: Final = 0.9
_END_WORDS: Final = {
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.LOST: "lost",
    ErrorKind.CANCELLED: "cancelled",
    "stopped": "stopped",
}


class Queue:
    """Puts jobs on record and settles what becomes of them."""

    def __init__(self, state: State, dispatcher: Dispatcher, followers: Followers) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._followers = followers

    # ── in ────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, link: Link, sid: int, fn: Function, head: Submit, parts: Sequence[bytes]) -> None:
        """Puts a call on record, at a worker at once where one is free, and answers or follows."""
        if head.idem is not None and self._seen(link, sid, fn, head):
            return
        pool = fn.pool
        waits = pool.queued > 0 or head.policy.delay_ms > 0 or self._state.draining
        worker = None if waits else self._dispatcher.free(fn)
        ahead = None
        if worker is None and not waits and head.policy.max_retries > 0:
            ahead = self._dispatcher.busy_with(fn)
        target = worker or ahead
        if target is None:
            self._check_room(pool)
        state = JobState.RUNNING if worker else JobState.ASSIGNED if ahead else JobState.READY
        args = ArgsHead(head.encoding, head.blobs, head.defs) if head.blobs or head.defs else PLAIN
        if not self._put(fn, head, parts, args, target, JobState.DELAYED if head.policy.delay_ms else state):
            self.attach(link, sid, head.job, wait=head.wait, logs=head.logs, accepted=not head.wait)
            return
        if head.wait:
            self._followers.add(head.job, link, sid, logs=head.logs)
        else:
            self._state.turn.promise(link, Accepted(job=head.job).encode(sid=sid, flags=1))
        if target is not None:
            now = self._state.clock.wall_ms()
            job = Active(head.job, fn, 1, 1, 0, 0, head.policy.timeout_ms, head.policy.max_retries, now, now)
            self._dispatcher.assign(target, job, args, parts)
        else:
            self._state.replan()

    def _seen(self, link: Link, sid: int, fn: Function, head: Submit) -> bool:
        """Whether the idempotency key has a job; it is followed in place of a new one."""
        store = self._state.turn.write()
        endpoint = fn.pool.endpoint.id
        existing = store.idempotent(endpoint, head.idem or "")
        if existing is None:
            store.remember_idempotent(endpoint, head.idem or "", head.job)
            return False
        self.attach(link, sid, existing, wait=head.wait, logs=head.logs, accepted=not head.wait)
        return True

    def _check_room(self, pool: Pool) -> None:
        endpoint = pool.endpoint
        waiting = sum(each.queued for each in endpoint.pools)
        if waiting >= MAX_WAITING or endpoint.args_bytes >= MAX_WAITING_BYTES:
            raise QueueFull(
                f"the endpoint {endpoint.spec.name!r} has {waiting} waiting jobs"
                f" with {endpoint.args_bytes >> 20} MiB of arguments",
                why=f"at most {MAX_WAITING} jobs and {MAX_WAITING_BYTES >> 20} MiB may wait",
                fix="wait, raise workersMax, or cancel some (flash jobs --status IN_QUEUE)",
                retry_after_ms=1000,
            )

    def _put(
        self,
        fn: Function,
        head: Submit,
        parts: Sequence[bytes],
        args: ArgsHead,
        worker: Worker | None,
        state: JobState,
    ) -> bool:
        now = self._state.clock.wall_ms()
        policy, pool = head.policy, fn.pool
        packed = frame.pack_parts(parts)
        job = NewJob(
            id=head.job,
            pool=pool.id,
            fn=fn.id,
            state=state,
            priority=policy.priority,
            worker=worker.id if worker else "",
            created_ms=now,
            timeout_ms=policy.timeout_ms,
            max_retries=policy.max_retries,
            awaited=head.wait,
            args=packed,
            args_head=None if args is PLAIN else _encode(args).decode(),
            ready_ms=now + policy.delay_ms if policy.delay_ms else None,
            expires_ms=now + policy.ttl_ms if policy.ttl_ms is not None else None,
        )
        store = self._state.turn.write()
        if not store.put(job):
            return False
        if args.blobs:
            store.add_blobs(head.job, args.blobs)
        if state is JobState.READY:
            pool.queued += 1
            pool.endpoint.args_bytes += len(packed)
        return True

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def done(self, worker: Worker, head: Done, parts: Sequence[bytes]) -> None:
        """A worker says how an attempt ended; a stale word changes nothing."""
        worker.last_done = self._state.clock.monotonic()
        job = _take(worker, head.job, head.epoch)
        if job is None:
            worker.acks.append((head.job, head.epoch, "stale"))
        else:
            self._state.active.pop(job.job, None)
            if head.ok:
                self._completed(job, worker, head, parts)
            else:
                error = head.error or ErrorInfo(type="RuntimeError", message="the worker gave no reason")
                self._failed(job, worker, error, head, parts)
            worker.acks.append((head.job, head.epoch, "recorded"))
        self._dispatcher.begin_next(worker)
        self._dispatcher.fill(worker)
        self._dispatcher.rest(worker)
        if not worker.inflight and worker.pool.endpoint.spec.idle_timeout_s <= 1:
            self._state.replan()

    def _completed(self, job: Active, worker: Worker, head: Done, parts: Sequence[bytes]) -> None:
        fn = job.fn
        fn.run_us = _mean(fn.run_us, head.run_us)
        fn.pool.run_us = _mean(fn.pool.run_us, head.run_us)
        self._end(job, worker, JobState.COMPLETED, head, parts, None, job.failures, job.losses)

    def _failed(
        self, job: Active, worker: Worker, error: ErrorInfo, head: Done | None, parts: Sequence[bytes] = ()
    ) -> None:
        """An attempt ended without a value: tried again, or the end of the job."""
        policy = JobPolicy(timeout_ms=job.timeout_ms, max_retries=job.max_retries)
        kind = ErrorKind.CANCELLED if job.cancelling else error.kind
        after = after_failure(policy, job.failures, job.losses, kind=kind, rand=random.random())
        self._settle(job, worker, error, after, kind, head, parts)

    def lost(self, job: Active, worker: Worker, *, started: bool, why: ErrorInfo) -> None:
        """The worker of a job is gone."""
        self._state.active.pop(job.job, None)
        if job.cancelling:
            cancelled = ErrorInfo(type="Cancelled", message=f"cancelled: {job.cancelling}", kind=ErrorKind.CANCELLED)
            self._failed(job, worker, cancelled, None)
            return
        if started and why.kind == ErrorKind.TIMEOUT:
            self._failed(job, worker, why, None)
            return
        policy = JobPolicy(timeout_ms=job.timeout_ms, max_retries=job.max_retries)
        after = after_loss(policy, job.failures, job.losses, started=started)
        if after.state is JobState.FAILED:
            why = self._with_earlier_losses(job, why, after)
        self._settle(job, worker, why, after, ErrorKind.LOST if started else ErrorKind.RELEASED, None)

    def given_back(self, job: Active, worker: Worker, *, started: bool) -> None:
        """The engine itself ends the worker of a job; nobody is to blame."""
        self._state.active.pop(job.job, None)
        if started and job.max_retries == 0:
            why = "the engine was stopped while it ran, and max_retries=0 promises at most one start"
            after = Next(JobState.FAILED, 0, job.failures, job.losses, why)
        else:
            after = Next(JobState.READY, 0, job.failures, job.losses, "the engine was stopped")
        error = ErrorInfo(type="EngineStopped", message=after.why, kind=ErrorKind.LOST)
        self._settle(job, worker, error, after, "stopped" if started else ErrorKind.RELEASED, None)

    def _settle(
        self,
        job: Active,
        worker: Worker,
        error: ErrorInfo,
        after: Next,
        kind: str,
        head: Done | None,
        parts: Sequence[bytes] = (),
    ) -> None:
        """Puts a failed attempt on record and does what follows it."""
        store = self._state.turn.write()
        now = self._state.clock.wall_ms()
        begun = kind != ErrorKind.RELEASED
        if begun:
            end = _END_WORDS.get(kind, "failed")
            started = self._started_ms(job, head, now)
            store.add_attempt(
                Attempt(
                    job.job,
                    job.attempt,
                    job.epoch,
                    worker.id,
                    job.assigned_ms,
                    started,
                    now,
                    end,
                    _encode(error),
                )
            )
        if after.state.is_terminal:
            self._end(job, worker, after.state, head, parts, error, after.failures, after.losses)
            return
        claimed = Claimed(
            0, 0, job.job, job.fn.id, job.epoch, job.attempt, job.failures, job.losses, 0, 0, 0, b"", None
        )
        attempt = job.attempt if begun else job.attempt - 1
        ready = now + after.delay_ms if after.state is JobState.DELAYED else None
        if (
            store.back(claimed, after.state, ready, attempt, after.failures, after.losses)
            and after.state is JobState.READY
        ):
            job.fn.pool.queued += 1
        if begun:
            self._state.event("again", {"attempt": job.attempt, "why": after.why, "error": _line(error)}, job=job.job)
            self._followers.state(job.job, after.state.status, attempt=job.attempt, worker=worker.id, why=after.why)
        self._state.replan()

    def _end(
        self,
        job: Active,
        worker: Worker,
        state: JobState,
        head: Done | None,
        parts: Sequence[bytes],
        error: ErrorInfo | None,
        failures: int,
        losses: int,
    ) -> None:
        """Puts the end of a job on record and tells who waits."""
        now = self._state.clock.wall_ms()
        started = self._started_ms(job, head, now)
        timing = timing_of(job, worker, head, now)
        view = OutHead() if head is None else _view(head)
        kept = parts[: view.values + view.excs]
        ended = Ended(
            id=job.job,
            epoch=job.epoch,
            state=state,
            ended_ms=now,
            started_ms=started,
            failures=failures,
            losses=losses,
            out=frame.pack_parts(kept) if kept else None,
            out_head=_encode(view),
            out_json=parts[len(kept)] if head is not None and head.json else None,
            error=_encode(error) if error else None,
            timing=_encode(timing),
        )
        store = self._state.turn.write()
        store.finish(ended)
        if head is not None and head.blobs:
            store.add_blobs(job.job, head.blobs)
        outcome = Outcome(
            job=job.job,
            status=state.status,
            attempts=job.attempt,
            created_at_ms=job.created_ms,
            ended_at_ms=now,
            started_at_ms=started,
            worker=worker.id,
            delay_ms=max(0, (started or now) - job.created_ms),
            run_us=view.run_us,
            encoding=view.encoding,
            values=view.values,
            excs=view.excs,
            blobs=view.blobs,
            defs=view.defs,
            timing=timing,
            error=error,
            json_error=view.json_error,
        )
        self._followers.outcome(outcome, kept, attempt=job.attempt, lines_follow=head is not None and head.logs)

    def _started_ms(self, job: Active, head: Done | None, now: int) -> int | None:
        if head is not None:
            return max(job.created_ms, now - head.run_us // 1000)
        if job.begun_at:
            return now - int((self._state.clock.monotonic() - job.begun_at) * 1000)
        return None

    def _with_earlier_losses(self, job: Active, why: ErrorInfo, after: Next) -> ErrorInfo:
        rows = [_error.decode(raw) for raw in self._state.store.losses_of(job.job)]
        lines = [f"attempt: {one.message.splitlines()[0]}" for one in (*rows, why)]
        told = "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))
        rest = "\n".join(why.message.splitlines()[1:])
        message = f"{after.why}\n{told}" + (f"\n{rest}" if rest else "")
        return msgspec.structs.replace(why, message=message)

    # ── asked for ─────────────────────────────────────────────────────────────────────────────────

    def attach(self, link: Link, sid: int, job: str, *, wait: bool, logs: bool, accepted: bool = False) -> bool:
        """Follows a job on record, or answers at once if it has ended; False if there is none."""
        row = self._state.store.job(job)
        if row is None:
            return False
        state = JobState(row["state"])
        if accepted:
            self._state.turn.promise(link, Accepted(job=job, existing=True).encode(sid=sid, flags=1))
        elif state.is_terminal:
            head, parts = outcome_of(row, self.job_error(row))
            self._state.turn.promise(link, head.encode(parts, sid=sid, flags=1))
        elif wait:
            self._followers.add(job, link, sid, logs=logs)
        return True

    def job_error(self, row: dict[str, Any]) -> ErrorInfo | None:
        """The error on record of a job's row."""
        return _error.decode(row["error"]) if row["error"] else None

    def cancel(self, job: str, cause: str) -> JobState | None:
        """Ends a job that has not ended; its state before, None if there is no such job."""
        row = self._state.store.job(job)
        if row is None:
            return None
        state = JobState(row["state"])
        if state.is_terminal:
            return state
        active = self._state.active.get(job)
        if active is not None:
            self._cancel_active(active, cause)
        elif state in {JobState.READY, JobState.DELAYED}:
            error = ErrorInfo(type="Cancelled", message=f"cancelled: {cause}", kind=ErrorKind.CANCELLED)
            self.end_waiting(row, JobState.CANCELLED, error)
        return state

    def _cancel_active(self, job: Active, cause: str) -> None:
        now = self._state.clock.wall_ms()
        self._state.turn.write().request_cancel(job.job, now)
        if job.cancelling:
            return
        job.cancelling = cause or "asked for"
        worker = next((w for w in job.fn.pool.workers.values() if job in w.inflight), None)
        if worker is not None:
            self.tell_cancelled(worker, job)

    def tell_cancelled(self, worker: Worker, job: Active) -> None:
        """Has a worker end a call that somebody cancelled; one in a plain function can only be ended with it."""
        if worker.inflight[0] is job and not job.fn.spec.is_async:
            self._dispatcher.stop(worker, "cancel")
            return
        head = Cancel(job=job.job, epoch=job.epoch, cause=job.cancelling, grace_ms=_CANCEL_GRACE_MS)
        self._state.turn.send(worker.link, head.encode())
        self._state.call_later(_CANCEL_GRACE_MS / 1000, self._end_grace, worker, job)

    def _end_grace(self, worker: Worker, job: Active) -> None:
        if job in worker.inflight and worker.state != "stopping":
            self._dispatcher.stop(worker, "cancel")

    def end_waiting(self, row: dict[str, Any], state: JobState, error: ErrorInfo) -> None:
        """A job that is at no worker ends."""
        now = self._state.clock.wall_ms()
        if not self._state.turn.write().finish_waiting(row["id"], state, now, _encode(error)):
            return
        pool = self._state.pools.get(row["pool_id"])
        if pool is not None and row["state"] == JobState.READY:
            pool.queued -= 1
            pool.endpoint.args_bytes -= len(row["args"] or b"")
        ended = {**row, "state": int(state), "ended_ms": now}
        head, parts = outcome_of(ended, error)
        self._followers.outcome(head, parts)

    def fail_waiting(self, pool: Pool, error: ErrorInfo) -> int:
        """Every waiting job of a pool ends, because none of them can start."""
        failed = 0
        while ids := self._state.turn.write().waiting_ids(pool.id, 200):
            for job in ids:
                row = self._state.store.job(job)
                if row is not None:
                    self.end_waiting(row, JobState.FAILED, error)
                    failed += 1
        return failed

    def expire(self) -> None:
        """Waiting jobs whose time is up end."""
        now = self._state.clock.wall_ms()
        for job in self._state.turn.write().expired(now):
            row = self._state.store.job(job)
            if row is not None:
                waited = (now - row["created_ms"]) / 1000
                message = f"expired: it waited {waited:.1f} s for a worker, longer than its ttl"
                self.end_waiting(
                    row,
                    JobState.TIMED_OUT,
                    ErrorInfo(type="Expired", message=message, kind=ErrorKind.EXPIRED),
                )

    def release_due(self) -> None:
        """Delayed jobs whose time has come become ready."""
        for pool_id in self._state.turn.write().due(self._state.clock.wall_ms()):
            pool = self._state.pools.get(pool_id)
            if pool is not None:
                pool.queued += 1
                if worker := next(reversed(pool.idle), None):
                    self._dispatcher.fill(worker)
        self._state.replan()

    def again(self, job: str) -> bool:
        """A job that failed or timed out runs once more."""
        row = self._state.store.job(job)
        if row is None or not self._state.turn.write().again(job):
            return False
        self._state.event("retry", {"by": "user"}, job=job)
        pool = self._state.pools[row["pool_id"]]
        pool.queued += 1
        for worker in list(pool.idle[-1:]):
            self._dispatcher.fill(worker)
        self._state.replan()
        return True


def _take(worker: Worker, job: str, epoch: int) -> Active | None:
    """The attempt that a DONE speaks of, taken from its worker."""
    for active in worker.inflight:
        if active.job == job and active.epoch == epoch:
            worker.inflight.remove(active)
            return active
    return None


def _mean(before: float, value: float) -> float:
    return value if before < 0 else _RUN_MEAN * before + (1 - _RUN_MEAN) * value


def _view(head: Done) -> OutHead:
    return OutHead(
        values=head.values,
        excs=head.excs,
        encoding=head.encoding,
        blobs=head.blobs,
        defs=head.defs,
        run_us=head.run_us,
        json_error=head.json_error,
    )


def _line(error: ErrorInfo) -> str:
    return f"{error.type}: {error.message}".splitlines()[0][:500]


def timing_of(job: Active, worker: Worker, head: Done | None, now_ms: int) -> dict[str, int]:
    """Where a job's time went, in microseconds: queued, environment, worker_start, load, run.

    While a job waited, building its environment and starting its worker are told apart from standing in line.
    """
    wait = max(0, job.assigned_ms - job.created_ms) * 1000
    timing = {"queued": wait}
    if wait:
        start = _overlap(job, worker.launched_at, worker.ready_at, worker, now_ms)
        built = _overlap(job, worker.pool.environment.asked_at, worker.pool.environment.ready_at, worker, now_ms)
        start, built = min(start, wait), min(built, wait - min(start, wait))
        timing = {"queued": wait - start - built, "environment": built, "worker_start": start}
    if head is not None:
        timing["load"], timing["run"] = head.load_us, head.run_us
    return timing


def _overlap(job: Active, begin: float, end: float, worker: Worker, now_ms: int) -> int:
    """Microseconds of [begin, end] (steady seconds) in which the job waited."""
    if not begin or not end:
        return 0
    base = worker.launched_ms - worker.launched_at * 1000  # steady → wall, by the one moment known in both
    first, last = max(base + begin * 1000, job.created_ms), min(base + end * 1000, job.assigned_ms)
    return max(0, round((last - first) * 1000))


def outcome_of(row: dict[str, Any], error: ErrorInfo | None) -> tuple[Outcome, Sequence[bytes]]:
    """The outcome of a job that has ended, from its row."""
    view = _out_head.decode(row["out_head"]) if row["out_head"] else OutHead()
    parts = frame.unpack_parts(row["out"]) if row["out"] else ()
    started = row["started_ms"]
    head = Outcome(
        job=row["id"],
        status=JobState(row["state"]).status,
        attempts=row["attempt"],
        created_at_ms=row["created_ms"],
        ended_at_ms=row["ended_ms"],
        started_at_ms=started,
        worker=row["worker"] or "",
        delay_ms=max(0, (started or row["ended_ms"]) - row["created_ms"]),
        run_us=view.run_us,
        encoding=view.encoding,
        values=view.values,
        excs=view.excs,
        blobs=view.blobs,
        defs=view.defs,
        timing=msgspec.json.decode(row["timing"]) if row["timing"] else {},
        error=error,
        json_error=view.json_error,
    )
    return head, parts


def exit_error(head: Exited, memory_mb: int | None) -> ErrorInfo:
    """What happened to a worker, as the error of the job that it ran."""
    if head.why == "deadline":
        return ErrorInfo(
            type="TimeoutError", message="the attempt took longer than its timeout", kind=ErrorKind.TIMEOUT
        )
    lines = [f"its worker {_exit_words(head, memory_mb)}"]
    if head.last_lines:
        lines += ["last lines of its output:", *(f"  {line}" for line in head.last_lines)]
    return ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message="\n".join(lines), kind=ErrorKind.LOST)


def _exit_words(head: Exited, memory_mb: int | None) -> str:
    if head.oom or head.why == "memory":
        limit = f"its limit is {memory_mb} MB" if memory_mb else "the machine had none left"
        return f"was killed because it ran out of memory ({limit}; it used {head.peak_rss_kb // 1024} MB)"
    if head.why == "host":
        return "died with its host"
    if head.signal is not None:
        try:
            name = signal.Signals(head.signal).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {head.signal} ({name})"
    if head.code is not None:
        return f"exited with code {head.code} in the middle of the call"
    return "vanished"
