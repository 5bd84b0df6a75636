"""The workers there are: carries out the plan through the host, and keeps book of who is there.

Store first, then the host: a worker is on record before it is launched, so one that the engine forgot in a
crash is adopted or ended when its host reconnects, never leaked.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from runpod_flash.engine import homes, program_variables, views
from runpod_flash.engine import plan as planning
from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.deadlock import Deadlocks
from runpod_flash.engine.dispatcher import IDLE_GRACE_MS, Dispatcher, forget
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.hosts import Hosts, key_hash
from runpod_flash.engine.outcomes import exit_error
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Active, Phase, Pool, Worker
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.snapshot import snapshot_of
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import Cancel, ErrorInfo, Exited, Hello, Launch, Launched, Ready, Refuse, Stop
from runpod_flash.wire.secrets import Secrets

_PLAN_PAUSE_S: Final = 0.01
_FARTHEST_LOOK_S: Final = 86_400.0
_START_TRIES: Final = 3
_START_LIMIT_S: Final = 120.0
_SERVING_START_LIMIT_S: Final = 420.0
_START_SLACK_S: Final = 5.0
_FIRST_BLOCK_S: Final = 0.2
_LONGEST_BLOCK_S: Final = 30.0
_WAIT_NOTICE_S: Final = 1.0
_ASYNC_GRACE_S: Final = 5.5
_LONG_S: Final = 0.2
_LONG_US: Final = 200_000.0
_LAST_WORDS_S: Final = 0.25
_STARTS_TOO_SLOWLY: Final = "it does not start"
_CUT: Final = "the connection of its worker was cut"


class Fleet:
    """The plan and the workers."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        queue: Queue,
        attempts: Attempts,
        followers: Followers,
        hosts: Hosts,
        environments: Environments,
        relay: Relay,
        programs: Programs,
    ) -> None:
        self._state = state
        self._programs = programs
        self._dispatcher = dispatcher
        self._queue = queue
        self._attempts = attempts
        self._followers = followers
        self._hosts = hosts
        self._environments = environments
        self._relay = relay
        self._deadlocks = Deadlocks(state, queue, relay)
        self._planned_at = 0.0
        self._plan_due = False
        self._look_again: asyncio.TimerHandle | None = None
        self._look_at = math.inf
        state.undeployed = self._undeployed
        hosts.give_up = self._give_up
        hosts.cannot_start = self._nothing_can_start

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def replan(self) -> None:
        """Something changed: plan in this turn, or, right after another plan, a moment later."""
        if self._plan_due:
            return
        self._plan_due = True
        at = max(self._planned_at + _PLAN_PAUSE_S, self._state.resume_at)
        self._state.call_later(max(0.0, at - self._state.clock.monotonic()), self._plan)

    def _plan(self) -> None:
        self._plan_due = False
        now = self._state.clock.monotonic()
        if now < self._state.resume_at:
            self.replan()
            return
        self._planned_at = now
        for pool in self._state.pools.values():
            self._dispatcher.serve(pool)
        snapshot = snapshot_of(self._state)
        actions = planning.plan(snapshot)
        waits = {action.pool: action for action in actions if isinstance(action, views.Waits)}
        self._state.hungry = bool(waits)
        for pool in self._state.pools.values():
            self._explain(pool, waits.get(pool.id))
        for action in actions:
            self._carry_out(action)
        self._look_later(planning.look_again_ms(snapshot))
        self._deadlocks.look()

    def look_within(self, seconds: float) -> None:
        """The passing of that time may change the plan; an earlier look finds that out as well."""
        if self._state.clock.monotonic() + seconds < self._look_at:
            self._look_later(int(seconds * 1000))

    def _look_later(self, after_ms: int | None) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        self._look_at = math.inf
        if after_ms is not None:
            wait = min(after_ms / 1000 + 0.001, _FARTHEST_LOOK_S)
            self._look_at = self._state.clock.monotonic() + wait
            self._look_again = self._state.call_later(wait, self._look)

    def _look(self) -> None:
        self._look_at = math.inf
        self.replan()

    def _carry_out(self, action: views.Action) -> None:
        match action:
            case views.EnsureEnv(pool):
                self._environments.ensure(self._state.pools[pool])
            case views.Launch(pool, gpus):
                self._launch(self._state.pools[pool], gpus)
            case views.StopWorker(worker, why):
                self._dispatcher.stop(self._state.workers[worker], why, grace_ms=IDLE_GRACE_MS)
            case views.DrainWorker(worker, why):
                self._dispatcher.drain(self._state.workers[worker], why)
            case _:
                pass

    def _explain(self, pool: Pool, waits: views.Waits | None) -> None:
        """Remembers what a pool waits for, and tells the callers if it lasts."""
        code, why = (waits.code, waits.why) if waits else ("", "")
        if code != pool.wait_code:
            pool.wait_code, pool.waits_since = code, self._state.clock.monotonic()
        if why == pool.why:
            return
        pool.why = why
        if why:
            self._state.call_later(_WAIT_NOTICE_S, self._tell_wait, pool, why)

    def _tell_wait(self, pool: Pool, why: str) -> None:
        """Whoever waits is told, unless a build shows itself anyway or a plan that is due may know better."""
        if self._plan_due or pool.environment.state != "ready" or self._state.pools.get(pool.id) is not pool:
            return
        if pool.why == why and pool.waiting:
            for job in self._environments.those_who_wait(pool):
                self._followers.state(job, "IN_QUEUE", why=why)

    # ── start ─────────────────────────────────────────────────────────────────────────────────────

    def _launch(self, pool: Pool, gpus: tuple[int, ...]) -> None:
        host = self._hosts.connected()
        if host is None:
            return
        try:
            secret = self._secrets_of(pool)
        except (OSError, ValueError) as error:
            self._start_failed(pool, f"the secrets of its app cannot be read: {error}")
            return
        now = self._state.clock.wall_ms()
        name, key = f"w{secrets.token_hex(5)}", secrets.token_hex(16)
        worker = Worker(name, pool, host.id, key_hash(key), gpus=gpus, launched_ms=now)
        worker.launched_at = self._state.clock.monotonic()
        gpu_text = msgspec.json.encode(list(gpus)).decode()
        self._state.turn.write().add_worker(name, pool.id, host.id, worker.key_hash, gpu_text, now)
        self._state.workers[name] = pool.workers[name] = worker
        spec = pool.spec
        launch = Launch(
            worker=name,
            key=key,
            endpoint=pool.endpoint.spec.name,
            env=pool.environment.path,
            runtime=spec.runtime,
            variables=self._variables(worker, key, secret),
            gpus=list(gpus),
            memory_mb=pool.placement.memory_mb,
            cpus=pool.placement.cpus if spec.cpu_limit else 0,
            mounts=list(spec.mounts),
            ports=list(spec.ports),
            at_once=spec.concurrency if pool.endpoint.spec.kind == "lb" else 0,
            program=spec.program,
            application=spec.application,
        )
        self._state.turn.send(host.link, launch.encode(sid=self._hosts.next_sid()))

    def _variables(self, worker: Worker, key: str, secret: dict[str, str]) -> dict[str, str]:
        spec = worker.pool.spec
        if spec.program is None:
            return {**spec.base_env, **secret, **spec.variables}
        return {**secret, **program_variables.variables(worker, key, self._state.gateway_url or "")}

    def _secrets_of(self, pool: Pool) -> dict[str, str]:
        """Those of the app's environment, if it is deployed there. Read now: they are kept nowhere else."""
        spec = pool.endpoint.spec
        return Secrets(self._state.settings.home, spec.app, spec.env).values() if pool.spec.release else {}

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
            self._start_failed(worker.pool, head.error)
            self._state.replan()

    def _start_failed(self, pool: Pool, why: str, *, hopeless: bool = True) -> None:
        """Backs off; after three starts in a row that failed, nothing of this pool can run.

        Not `hopeless` is a program that had started, and ended by itself: perhaps over one job.
        """
        pool.failed_starts += 1
        pool.last_error = why
        pause = min(_LONGEST_BLOCK_S, _FIRST_BLOCK_S * 2.0 ** (pool.failed_starts - 1))
        pool.blocked_until = self._state.clock.monotonic() + pause
        if hopeless and pool.failed_starts % _START_TRIES == 0:
            self._fail_all(pool, f"its workers cannot start ({_START_TRIES} tries):\n{why}")

    def _nothing_can_start(self, why: str) -> None:
        for pool in self._state.pools.values():
            self._fail_all(pool, why)

    def _fail_all(self, pool: Pool, message: str) -> None:
        if pool.phase is Phase.STAGED:
            self._state.staged_failed(pool, message)
        self._end_waiting(
            pool, ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=message, kind=ErrorKind.ENV)
        )

    def _undeployed(self, pool: Pool) -> None:
        message = f"the endpoint {pool.endpoint.spec.name!r} was undeployed"
        self._end_waiting(
            pool,
            ErrorInfo(type="JobCancelled", module="runpod_flash.errors", message=message, kind=ErrorKind.CANCELLED),
        )

    def _end_waiting(self, pool: Pool, error: ErrorInfo) -> None:
        self._relay.fail_waiting(pool, error)
        if pool.queued:
            self._queue.fail_waiting(pool, error)

    # ── coming and going ──────────────────────────────────────────────────────────────────────────

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
            why = worker.complaint or "\n".join(head.last_lines) or exit_error(head, None).message
            self._start_failed(worker.pool, why, hopeless=not worker.ready_at)
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
