"""The workers there are, and which of them come, go, or take too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from runpod_flash.engine import homes
from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.dispatcher import Dispatcher, forget
from runpod_flash.engine.hosts import Hosts, key_hash
from runpod_flash.engine.outcomes import start_error
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.records import Active, Phase, Pool, Worker
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.starts import Starts
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.wire.messages import Cancel, ErrorInfo, Exited, Hello, Launched, Ready, Refuse, Stop

_START_LIMIT_S: Final = 120.0
_SERVING_START_LIMIT_S: Final = 420.0
_START_SLACK_S: Final = 5.0
_ASYNC_GRACE_S: Final = 5.5
_LONG_S: Final = 0.2
_LONG_US: Final = 200_000.0
_LAST_WORDS_S: Final = 0.25
_STARTS_TOO_SLOWLY: Final = "it does not start"
_CUT: Final = "the connection of its worker was cut"


class Fleet:
    """Keeps book of the workers: who is there, and what becomes of the calls of those who are not any more."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        attempts: Attempts,
        hosts: Hosts,
        relay: Relay,
        programs: Programs,
        starts: Starts,
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._attempts = attempts
        self._relay = relay
        self._programs = programs
        self._starts = starts
        hosts.give_up = self._give_up

    # ── coming and going ──────────────────────────────────────────────────────────────────────────

    def launched(self, head: Launched) -> None:
        """The host has started a worker, or could not."""
        worker = self._state.workers.get(head.worker)
        if worker is None:
            return
        worker.pid, worker.how, worker.ports = head.pid, head.how, dict(head.ports)
        if head.error:
            # The folder may have been removed under us: ask the host again, which builds what is missing.
            if worker.pool.environment.state == "ready":
                worker.pool.environment.state = "unknown"
            self._remove(worker, f"not started: {head.error}")
            self._starts.failed(worker.pool, head.error)
            self._state.replan()

    def recover(self) -> None:
        """Takes up the workers that were there when the engine ended. Their streams will come."""
        now, wall = self._state.clock.monotonic(), self._state.clock.wall_ms()
        for row in self._state.store.open_workers():
            pool = self._state.pools[row.pool]
            worker = Worker(row.id, pool, row.host, row.key_hash, gpus=row.gpus, launched_ms=row.launched_ms)
            worker.launched_at = now - max(0, wall - row.launched_ms) / 1000
            if row.ready:
                worker.state, worker.ready_at = "busy", now
            self._state.workers[row.id] = pool.workers[row.id] = worker

    def joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A worker's stream has been opened by its host; the worker is there when it says READY on it."""
        worker = self._state.workers.get(hello.worker)
        if worker is None or key_hash(hello.key) != worker.key_hash:
            return Refuse(code="unknown_worker", what=f"no worker {hello.worker!r} of that key is on record")
        for old in (worker.link, worker.joining):
            if old is not None:
                old.close()
        worker.joining, link.state = link, worker
        self._away(worker)
        # What it had to answer there it keeps to itself; if it had died, its host would have said how.
        self._relay.lost(worker, ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=_CUT, kind="lost"))
        return None

    def left(self, link: Link) -> None:
        """A worker's stream is gone; another may come."""
        worker = link.state
        if link is worker.joining:
            worker.joining = None
        elif link is worker.link:
            self._away(worker)
        else:
            return
        self._bury(worker)

    def _away(self, worker: Worker) -> None:
        worker.link = None
        if worker.state == "idle":
            worker.pool.idle.remove(worker)
            worker.state = "busy"

    def ready(self, link: Link, head: Ready) -> None:
        """A worker is there, for the first time or again."""
        worker: Worker = link.state
        if worker.joining is not link:
            return  # it has said so before, or a newer stream has taken this one's place
        worker.joining, worker.link = None, link
        if not worker.pool.asks:  # a program has proven nothing yet
            worker.pool.failed_starts = 0
            worker.pool.last_error = ""
        worker.last_done = self._state.clock.monotonic()
        if worker.state == "starting":
            worker.state, worker.ready_at = "busy", worker.last_done
            self._state.turn.write().worker_ready(worker.id, self._state.clock.wall_ms())
        self._reconcile(worker, {(job, epoch) for job, epoch in head.held})
        homes.found(worker, head.instances)
        if worker.last_words is None:
            self._carry_on(worker)

    def _reconcile(self, worker: Worker, held: set[tuple[str, int]]) -> None:
        """What it has and what we think it has: a START may have been lost with the last stream, or an end."""
        worker.sent.clear()
        worker.latest = None
        worker.released_behind = None
        for job in [job for job in worker.inflight if (job.job, job.epoch) not in held]:
            worker.inflight.remove(job)
            self._attempts.lost(job, worker, started=False, why=ErrorInfo(type="Released", message="never arrived"))
        for name, epoch in sorted(held - {(job.job, job.epoch) for job in worker.inflight}):
            self._state.turn.send(worker.link, Cancel(job=name, epoch=epoch, cause="stale").encode())

    def _carry_on(self, worker: Worker) -> None:
        if worker.state == "stopping":
            self._dispatcher.stop(worker, worker.stop_why)
            return
        self._dispatcher.begin_next(worker)
        for job in list(worker.inflight):
            if job.cancelling:
                self._attempts.tell_cancelled(worker, job)
        self._dispatcher.stop_if_drained(worker)
        self._dispatcher.fill(worker)
        self._relay.serve(worker)
        if worker.pool.phase is Phase.STAGED:
            self._state.staged_ready(worker.pool)
        self._state.replan()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def exited(self, head: Exited, then: Callable[[], None]) -> None:
        """A worker is gone; `then` follows once its jobs are settled.

        Results that it sent before its end may still lie in its stream, and they come first: the host's word
        travels on another one.
        """
        worker = self._state.workers.get(head.worker)
        if worker is None:
            then()
        elif worker.has_work and (worker.link or worker.joining):
            worker.last_words = head, then
            worker.state = "stopping"
            self._state.call_later(_LAST_WORDS_S, self._bury, worker)
        else:
            self._end(worker, head, _index_of(worker, head))
            then()

    def _bury(self, worker: Worker) -> None:
        """Its stream has been read to the end, or somebody else holds it open."""
        if worker.last_words is not None and self._state.workers.get(worker.id) is worker:
            (head, then), worker.last_words = worker.last_words, None
            self._end(worker, head, _index_of(worker, head))
            then()

    def _give_up(self, worker: Worker) -> None:
        """No report came about it: whatever it had may have run."""
        host = self._state.host
        if host is not None:
            self._state.turn.send(host.link, Stop(worker=worker.id, why="stale").encode())
        self._end(worker, Exited(worker=worker.id, why="host"), len(worker.inflight) - 1)

    def give_back_all(self) -> None:
        """The engine leaves and takes all workers with it. What they have begun, only they know: all may be."""
        for worker in list(self._state.workers.values()):
            worker.stop_why = "stop"
            begun = worker.front is not None and worker.front.begun_at
            self._end(worker, Exited(worker=worker.id, why="stop"), len(worker.inflight) - 1 if begun else -1)

    def _end(self, worker: Worker, head: Exited, last_begun: int) -> None:
        """A worker is gone: its jobs are lost, late, cancelled, or go back, each as it stood."""
        self._relay.exited(worker, head)
        jobs = list(worker.inflight)
        worker.inflight.clear()
        if is_program := worker.pool.asks:
            last_begun = len(jobs) - 1  # each may have begun: it was given them, and can begin any number at once
        by_itself = head.why != "host" and worker.stop_why in {"", _STARTS_TOO_SLOWLY}
        started_badly = by_itself and (is_program or not worker.ready_at)
        if not self._state.draining and (jobs or started_badly or (by_itself and worker.pool.serves)):
            data = {"worker": worker.id, "code": head.code, "signal": head.signal, "why": head.why}
            if head.last_lines:
                data["error"] = head.last_lines[-1]
            self._state.event("worker_lost", data, endpoint=worker.pool.endpoint.id)
        self._remove(worker, head.why or worker.stop_why or "exited")
        for index, job in enumerate(jobs):
            running = index == last_begun
            self._attempts.exited(job, worker, head, started=index <= last_begun, running=running)
        if started_badly:
            silent = start_error(head, is_program=is_program, ready=bool(worker.ready_at))
            why = worker.complaint or "\n".join(head.last_lines) or silent
            self._starts.failed(worker.pool, why, hopeless=not worker.ready_at)
        self._state.replan()

    def _remove(self, worker: Worker, end: str) -> None:
        forget(worker.pool, worker)
        self._state.workers.pop(worker.id, None)
        self._state.turn.write().end_worker(worker.id, end[:500], self._state.clock.wall_ms())
        for link in (worker.link, worker.joining):
            if link is not None:
                link.close()
        worker.link = worker.joining = None

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def check_times(self) -> None:
        """Ends workers whose call is over its time: at once for a plain function, after the grace for async.

        The worker itself ends async calls, and the host ends what outlives both, also while there is no engine.
        """
        now = self._state.clock.monotonic()
        self._relay.check_times(now)
        for worker in list(self._state.workers.values()):
            front = worker.front
            if worker.pool.asks:
                self._programs.check_times(worker, now)
            elif worker.state == "starting" and now > worker.launched_at + _start_limit_s(worker.pool):
                self._dispatcher.stop(worker, _STARTS_TOO_SLOWLY)
            elif front is None or worker.state == "stopping":
                continue
            elif _is_overdue(front, now):
                front.overdue = True
                self._dispatcher.stop(worker, "timeout")
            elif len(worker.inflight) > 1 and now > max(worker.last_done, front.begun_at) + _LONG_S:
                self._release_behind(worker, front)

    def _release_behind(self, worker: Worker, front: Active) -> None:
        """The call in front turned out long: those behind it go to whoever is free."""
        front.fn.run_us = max(front.fn.run_us, _LONG_US)
        if worker.link is None or worker.released_behind is front:
            return
        worker.released_behind = front
        for waiting in list(worker.inflight)[1:]:
            head = Cancel(job=waiting.job, epoch=waiting.epoch, cause="release", only_waiting=True)
            self._state.turn.send(worker.link, head.encode())


def _start_limit_s(pool: Pool) -> float:
    """What is served may take its time to start; it says itself why it has not, a little before this."""
    if not pool.spec.serves:
        return _START_LIMIT_S
    try:
        return float(pool.spec.variables["RUNPOD_INIT_TIMEOUT"]) + _START_SLACK_S
    except (KeyError, ValueError):
        return _SERVING_START_LIMIT_S + _START_SLACK_S


def _is_overdue(front: Active, now: float) -> bool:
    grace = _ASYNC_GRACE_S if front.fn.spec.is_async else 0.0
    return bool(front.timeout_ms and front.begun_at) and now > front.begun_at + front.timeout_ms / 1000 + grace


def _index_of(worker: Worker, head: Exited) -> int:
    """Which of its jobs a worker began last, by the page: those sent before had begun too. -1: none of them."""
    current = (head.current.job, head.current.epoch) if head.current else None
    return next((n for n, job in enumerate(worker.inflight) if (job.job, job.epoch) == current), -1)
