"""Jobs that are at a worker: completed, failed, lost, given back, cancelled.

What a worker or its host says settles an attempt here: a result is guarded by the attempt's epoch, and is
committed by the turn before anybody hears of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from runpod_flash.engine.dispatcher import Dispatcher
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.lineage import CALLER_ENDED, CALLER_LOST
from runpod_flash.engine.outcomes import (
    cancelled_error,
    exit_error,
    first_line,
    outcome_now,
    overdue_error,
    tell_losses,
    view_of,
    waiting_of,
)
from runpod_flash.engine.records import Active, Worker
from runpod_flash.engine.state import State
from runpod_flash.engine.store.rows import Attempt, Ended, Returned
from runpod_flash.engine.streams import Streams
from runpod_flash.errors import StoreError
from runpod_flash.model.job import ErrorKind, JobPolicy, JobState, Next, after_failure, after_loss
from runpod_flash.wire import blobs, frame
from runpod_flash.wire.messages import Cancel, Done, ErrorInfo, Exited

_encode: Final = msgspec.json.Encoder().encode
_new = tuple.__new__
_CANCEL_GRACE_MS: Final = 5000
_RUN_MEAN: Final = 0.9
_RUN_NEW: Final = 1 - _RUN_MEAN
_COMPLETED: Final = JobState.COMPLETED
_STOPPED: Final = "stopped"
"""The end of an attempt that the engine itself cut short: nobody is to blame, and nothing is used up."""
_WAS_READ: Final = "items of it had been read, and another attempt would begin anew"
_FOR_ANOTHER: Final = {"timeout": "deadline", "cancel": "cancel"}
"""Why a worker was ended by us, for those of its jobs that were not the reason."""
_END_WORDS: Final = {
    ErrorKind.TIMEOUT: "timeout",
    ErrorKind.EXPIRED: "timeout",
    ErrorKind.LOST: "lost",
    ErrorKind.CANCELLED: "cancelled",
    _STOPPED: "stopped",
}


class Attempts:
    """Settles what becomes of jobs that workers were given."""

    def __init__(self, state: State, dispatcher: Dispatcher, followers: Followers, streams: Streams) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._followers = followers
        self._streams = streams

    # ── a worker says so ──────────────────────────────────────────────────────────────────────────

    def done(self, worker: Worker, head: Done, parts: Sequence[bytes], raw: bytes) -> None:
        """A worker says how an attempt ended (`raw` is the head as it came); a stale word changes nothing."""
        worker.last_done = self._state.clock.monotonic()
        job = _take(worker, head.job, head.epoch)
        if job is None:
            worker.acks.append((head.job, head.epoch, "stale"))
        else:
            self._state.active.pop(job.job, None)
            if head.ok:
                self._completed(job, worker, head, parts, raw)
            else:
                error = head.error or ErrorInfo(type="RuntimeError", message="the worker gave no reason")
                if error.kind == ErrorKind.LOST:  # of a program, which lives on
                    self.lost(job, worker, started=True, why=error)
                else:
                    self._failed(job, worker, error, head, parts)
            worker.acks.append((head.job, head.epoch, "recorded"))
        self._dispatcher.go_on(worker)

    def _completed(self, job: Active, worker: Worker, head: Done, parts: Sequence[bytes], raw: bytes) -> None:
        fn, pool, run_us = job.fn, job.fn.pool, head.run_us
        fn.run_us = run_us if fn.run_us < 0 else _RUN_MEAN * fn.run_us + _RUN_NEW * run_us
        pool.run_us = run_us if pool.run_us < 0 else _RUN_MEAN * pool.run_us + _RUN_NEW * run_us
        self._end(job, worker, _COMPLETED, job.failures, job.losses, head, parts, raw)

    def _failed(
        self, job: Active, worker: Worker, error: ErrorInfo, head: Done | None, parts: Sequence[bytes] = ()
    ) -> None:
        """An attempt ended without a value: tried again, or the end of the job."""
        if job.expired:
            error = cancelled_error(job, self._state.clock.wall_ms())
        kind = ErrorKind.CANCELLED if job.cancelling and not job.expired else error.kind
        after = after_failure(self._policy(job), job.failures, job.losses, kind=kind, rand=random.random())
        self._settle(job, worker, error, after, kind, head, parts)

    # ── its host says so, or the engine ───────────────────────────────────────────────────────────

    def exited(self, job: Active, worker: Worker, head: Exited, *, started: bool, running: bool) -> None:
        """The worker of a job is gone. `started`: the page says so; `running`: it was the one begun last."""
        if started and (job.overdue or (running and head.why == "deadline")):
            self.lost(job, worker, started=True, why=overdue_error(job))
        elif worker.stop_why == "stop" and not job.cancelling:
            self.given_back(job, worker, started=started)
        else:
            if head.why == "stop":
                head = msgspec.structs.replace(head, why=_FOR_ANOTHER.get(worker.stop_why, head.why))
            self.lost(job, worker, started=started, why=exit_error(head, worker.pool.spec.memory_mb))

    def lost(self, job: Active, worker: Worker, *, started: bool, why: ErrorInfo) -> None:
        """A job has no worker any more, or never reached it."""
        self._state.active.pop(job.job, None)
        if job.cancelling:
            self._failed(job, worker, cancelled_error(job, self._state.clock.wall_ms()), None)
            return
        if started and why.kind == ErrorKind.TIMEOUT:
            self._failed(job, worker, why, None)
            return
        if started and self._is_read(job):
            after = Next(JobState.FAILED, 0, job.failures, job.losses + 1, _WAS_READ)
        else:
            after = after_loss(_policy(job), job.failures, job.losses, started=started)
        if after.state is JobState.FAILED:
            earlier = self._state.store.losses_of(job.job)
            why = tell_losses(earlier[len(earlier) - job.losses :], why, after.why)
        self._settle(job, worker, why, after, ErrorKind.LOST if started else ErrorKind.RELEASED, None)

    def given_back(self, job: Active, worker: Worker, *, started: bool) -> None:
        """The engine itself ends the worker of a job; nobody is to blame."""
        self._state.active.pop(job.job, None)
        after = Next(JobState.READY, 0, job.failures, job.losses, "the engine was stopped")
        if started and job.max_retries == 0:
            why = "the engine was stopped while it ran, and max_retries=0 promises at most one start"
            after = Next(JobState.FAILED, 0, job.failures, job.losses, why)
        elif started and self._is_read(job):
            after = Next(
                JobState.FAILED, 0, job.failures, job.losses, f"the engine was stopped while it ran; {_WAS_READ}"
            )
        error = ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=after.why, kind=ErrorKind.LOST)
        self._settle(job, worker, error, after, _STOPPED if started else ErrorKind.RELEASED, None)

    # ── somebody asks, or its ttl is over ─────────────────────────────────────────────────────────

    def cancel(self, job: Active, cause: str) -> None:
        """A job at a worker shall end; it has ended when the worker says so, or is gone."""
        self._state.turn.write().request_cancel(job.job, self._state.clock.wall_ms())
        if job.cancelling:
            return
        job.cancelling = cause
        self._state.lineage.abandon(job.job, cause)
        worker = next((worker for worker in job.fn.pool.workers.values() if job in worker.inflight), None)
        if worker is not None:
            self.tell_cancelled(worker, job)

    def expire(self, job: Active) -> None:
        """A job at a worker shall end, because its ttl is over."""
        job.expired = job.expired or not job.cancelling
        self.cancel(job, "its ttl is over")

    def tell_cancelled(self, worker: Worker, job: Active) -> None:
        """Has a worker end a call that somebody cancelled; one in a plain function can only be ended with it."""
        if worker.front is job and not job.fn.spec.is_async:
            self._dispatcher.stop(worker, "cancel")
            return
        head = Cancel(job=job.job, epoch=job.epoch, cause=job.cancelling, grace_ms=_CANCEL_GRACE_MS)
        # Not before the START, which may wait for the disk (see Dispatcher.assign).
        send = self._state.turn.promise if job.max_retries == 0 else self._state.turn.send
        send(worker.link, head.encode())
        self._state.call_later(_CANCEL_GRACE_MS / 1000, self._end_grace, worker, job)

    def _end_grace(self, worker: Worker, job: Active) -> None:
        if self._state.active.get(job.job) is not job or worker.state == "stopping":
            return
        if worker.front is job or worker.pool.asks:
            self._dispatcher.stop(worker, "cancel")
        else:  # the worker cannot read, because of the call in front of it, which is none of our business
            self._state.call_later(_CANCEL_GRACE_MS / 1000, self._end_grace, worker, job)

    # ── on record ─────────────────────────────────────────────────────────────────────────────────

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
        begun = kind != ErrorKind.RELEASED
        if begun:
            self._record(job, worker, error, _END_WORDS.get(kind, "failed"), head)
        if after.state.is_terminal:
            out_head = _encode(view_of(head)) if head is not None else None
            self._end(job, worker, after.state, after.failures, after.losses, head, parts, out_head, error)
            return
        self._return(job, after, begun)
        if job.stream:
            self._streams.begin_again(job.job)
        self._state.lineage.abandon(job.job, CALLER_LOST)
        if begun:
            self._state.event(
                "again", {"attempt": job.attempt, "why": after.why, "error": first_line(error)}, job=job.job
            )
            why = f"{after.why} ({first_line(error)})"
            self._followers.state(job.job, after.state.status, attempt=job.attempt, worker=worker.id, why=why)
        self._state.replan()

    def _record(self, job: Active, worker: Worker, error: ErrorInfo, end: str, head: Done | None) -> None:
        now = self._state.clock.wall_ms()
        started = self._started_ms(job, head, now)
        attempt = Attempt(
            job.job, job.attempt, job.epoch, worker.id, job.assigned_ms, started, now, end, _encode(error)
        )
        self._state.turn.write().add_attempt(attempt)

    def _return(self, job: Active, after: Next, begun: bool) -> None:
        """Back to the queue. What was not begun has not left it: no attempt is counted."""
        ready = self._state.clock.wall_ms() + after.delay_ms
        attempt = job.attempt if begun else job.attempt - 1
        returned = Returned(job.job, job.epoch, after.state, ready, attempt, after.failures, after.losses)
        if not self._state.turn.write().back(returned):
            raise _disagreement(job)
        if after.state is JobState.READY:
            job.fn.pool.enter(job.size, job.instance)
        # One that has waited before its first attempt goes on doing so, and may expire.
        self._state.wake_at(ready)

    def _end(
        self,
        job: Active,
        worker: Worker,
        state: JobState,
        failures: int,
        losses: int,
        head: Done | None,
        parts: Sequence[bytes],
        out_head: bytes | None,
        error: ErrorInfo | None = None,
    ) -> None:
        """Puts the end of a job on record and tells who waits."""
        now = self._state.clock.wall_ms()
        waited = waiting_of(job, worker) if job.assigned_ms > job.created_ms else None
        kept = parts[: head.values + head.excs] if head is not None else ()
        ended = _new(  # what Ended(…) does, without a Python function in between
            Ended,
            (
                job.seq,
                job.epoch,
                now,
                self._started_ms(job, head, now),
                frame.pack_parts(kept) if kept else None,
                None if out_head is None else bytearray(out_head),
                state,
                parts[len(kept)] if head is not None and head.json and len(parts) > len(kept) else None,
                _encode(waited) if waited else None,
                None if error is None else _encode(error),
                failures,
                losses,
            ),
        )
        store = self._state.turn.write()
        if not store.finish(ended):
            raise _disagreement(job)
        if head is not None and head.blobs:
            store.add_blobs(job.job, [moved for moved in head.blobs if blobs.is_id(moved[1])])
        if self._followers.wanted(job.job):
            lines_follow = head is not None and head.logs and not job.lines_out
            told = outcome_now(job, worker, ended, head, error)
            self._followers.outcome(told, kept, attempt=job.attempt, lines_follow=lines_follow)
        if job.stream:
            self._streams.ended(job.job)
        if job.progress:
            store.say_progress(job.job, job.progress.decode())
        self._state.lineage.ended(job.job, CALLER_ENDED)

    def _is_read(self, job: Active) -> bool:
        return bool(job.stream) and self._streams.is_read(job.job)

    def _policy(self, job: Active) -> JobPolicy:
        """What somebody has been given items of is not run again: the next attempt would begin anew.

        Nor is what has called as deep as calls may go: it would do so again. And of a program an error is its answer.
        """
        final = job.fn.pool.asks or self._is_read(job) or self._state.lineage.is_hopeless(job.job)
        return JobPolicy(timeout_ms=job.timeout_ms, max_retries=0) if final else _policy(job)

    def _started_ms(self, job: Active, head: Done | None, now: int) -> int | None:
        if head is not None:
            return max(job.created_ms, now - head.run_us // 1000)
        if job.begun_at:
            return now - int((self._state.clock.monotonic() - job.begun_at) * 1000)
        return None


def _policy(job: Active) -> JobPolicy:
    return JobPolicy(timeout_ms=job.timeout_ms, max_retries=job.max_retries)


def _disagreement(job: Active) -> StoreError:
    """Memory and store are at odds, which only a bug of ours can cause: memory is read again."""
    return StoreError(
        f"job {job.job} is not at a worker with epoch {job.epoch}, says the store",
        why="the engine's memory said otherwise; it has been read again from the store",
        fix="please report this with the engine's log",
    )


def _take(worker: Worker, job: str, epoch: int) -> Active | None:
    """The attempt that a DONE speaks of, taken from its worker."""
    inflight = worker.inflight
    for active in inflight:
        if active.job == job and active.epoch == epoch:
            if active is inflight[0]:
                return inflight.popleft()
            inflight.remove(active)
            return active
    return None
