"""The workers there are: carries out the plan through the host, and keeps book of who is there.

Store first, then the host: a worker is on record before it is launched, so one that the engine forgot in a
crash is adopted or ended when its host reconnects, never leaked.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from runpod_flash.engine import plan as planning
from runpod_flash.engine.dispatcher import Dispatcher, forget
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.queue import Queue, exit_error
from runpod_flash.engine.records import Active, Environment, Host, Pool, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire import messages
from runpod_flash.wire.messages import ErrorInfo, Exited, Hello, Machine, Ready, Refuse

logger = logging.getLogger(__name__)

_PLAN_PAUSE_S: Final = 0.01
_REPORTS_WITHIN_S: Final = 2.0
_ADOPT_WITHIN_S: Final = 10.0
_START_TRIES: Final = 3
_FIRST_BLOCK_S: Final = 0.2
_LONGEST_BLOCK_S: Final = 30.0
_WAIT_NOTICE_S: Final = 1.0
_LINES_TO: Final = 50


class HostProcess(Protocol):
    """A host that this engine has started: its child."""

    pid: int

    def fileno(self) -> int: ...
    def reap(self) -> int | None: ...


class Provider(Protocol):
    """Starts hosts; see `providers/base.py`."""

    def start(self, socket: Path, home: Path, rundir: Path, key: str) -> HostProcess: ...


class Fleet:
    """Hosts, workers and environments."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        dispatcher: Dispatcher,
        queue: Queue,
        followers: Followers,
        provider: Provider,
        rundir: Path,
        watch: Callable[[HostProcess, Callable[[], None]], None],
    ) -> None:
        self._state = state
        self._registry = registry
        self._dispatcher = dispatcher
        self._queue = queue
        self._followers = followers
        self._provider = provider
        self._rundir = rundir
        self._watch = watch
        self._planned_at = 0.0
        self._plan_due = False
        self._look_again: Any = None
        self._starting_host = False
        self._sid = 0
        self._asked_deps: dict[int, Callable[[list[dict[str, Any]]], None]] = {}

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def replan(self) -> None:
        """Something changed: plan in this turn, or, right after another plan, a moment later."""
        if self._plan_due:
            return
        self._plan_due = True
        wait = self._planned_at + _PLAN_PAUSE_S - self._state.clock.monotonic()
        self._state.call_later(max(0.0, wait), self._plan)

    def _plan(self) -> None:
        self._plan_due = False
        self._planned_at = self._state.clock.monotonic()
        for pool in self._state.pools.values():
            while pool.queued and pool.idle and not self._state.draining:
                before = pool.queued, len(pool.idle)
                self._dispatcher.fill(pool.idle[-1])
                if (pool.queued, len(pool.idle)) == before:
                    break
        snapshot = self.snapshot()
        actions = planning.plan(snapshot)
        waits = {action.pool: action.why for action in actions if isinstance(action, planning.Waits)}
        for pool in self._state.pools.values():
            self._explain(pool, waits.get(pool.id, ""))
        for action in actions:
            self._carry_out(action)
        self._look_later(planning.look_again_ms(snapshot))

    def _look_later(self, after_ms: int | None) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        if after_ms is not None:
            self._look_again = self._state.call_later(after_ms / 1000 + 0.001, self.replan)

    def snapshot(self) -> planning.Snapshot:
        """How everything stands, for the plan."""
        now, wall = self._state.clock.monotonic(), self._state.clock.wall_ms()
        machine = self._state.host.machine if self._state.host else None
        cpus = machine.cpus if machine else os.cpu_count() or 1
        capacity = planning.Capacity(
            memory_mb=machine.memory_mb if machine else 0,
            gpus=tuple(index for index, _name, _memory in machine.gpus) if machine else (),
            max_workers=max(16, 4 * cpus),
        )
        return planning.Snapshot(
            endpoints={number: self._endpoint_view(number, now) for number in self._state.endpoints},
            pools={pool.id: self._pool_view(pool, now, wall) for pool in self._state.pools.values()},
            workers=tuple(_worker_view(worker, now) for worker in self._state.workers.values()),
            capacity=capacity,
            draining=self._state.draining,
        )

    def _endpoint_view(self, number: int, now: float) -> planning.EndpointView:
        endpoint = self._state.endpoints[number]
        spec = endpoint.spec
        held = bool(endpoint.holders) or (
            endpoint.unheld_since > 0 and now - endpoint.unheld_since < spec.idle_timeout_s
        )
        return planning.EndpointView(
            id=number,
            workers_min=spec.workers_min,
            workers_max=spec.workers_max,
            idle_timeout_ms=int(spec.idle_timeout_s * 1000),
            scaler=spec.scaler,
            scaler_value=spec.scaler_value,
            held=held or spec.origin == "deployed",
            priority_pool=endpoint.last_pool.id if endpoint.last_pool else None,
            name=spec.name,
        )

    def _pool_view(self, pool: Pool, now: float, wall: int) -> planning.PoolView:
        oldest = self._state.store.oldest(pool.id) if pool.queued else None
        hands = sum(1 for worker in pool.workers.values() if worker.state in {"idle", "busy"})
        soon = 0 <= pool.run_us * pool.queued <= planning.RUNS_SOON_MS * 1000 * hands
        return planning.PoolView(
            id=pool.id,
            endpoint=pool.endpoint.id,
            queued=pool.queued,
            oldest_wait_ms=max(0, wall - oldest) if oldest else 0,
            running=sum(len(worker.inflight) for worker in pool.workers.values()),
            env=pool.environment.state,
            gpus=pool.gpu_count,
            memory_mb=pool.spec.memory_mb,
            cpus=pool.spec.cpus,
            concurrency=pool.spec.concurrency,
            launch_blocked_ms=max(0, int((pool.blocked_until - now) * 1000)),
            queued_runs_soon=soon and hands > 0,
        )

    def _carry_out(self, action: planning.Action) -> None:
        match action:
            case planning.EnsureEnv(pool):
                self._ensure_environment(self._state.pools[pool])
            case planning.Launch(pool, gpus):
                self._launch(self._state.pools[pool], gpus)
            case planning.StopWorker(worker, why):
                self._dispatcher.stop(self._state.workers[worker], why, grace_ms=2000)
            case planning.DrainWorker(worker, why):
                self._drain(self._state.workers[worker], why)
            case _:
                pass

    def _drain(self, worker: Worker, why: str) -> None:
        """The worker takes nothing new; it is stopped when its last job is done."""
        worker.state = "stopping"
        worker.stop_why = why
        if not worker.inflight:
            self._dispatcher.stop(worker, why, grace_ms=2000)

    def _explain(self, pool: Pool, why: str) -> None:
        """Remembers what a pool waits for, and tells the callers if it lasts."""
        if why == pool.why:
            return
        pool.why = why
        if why:
            self._state.call_later(_WAIT_NOTICE_S, self._tell_wait, pool, why)

    def _tell_wait(self, pool: Pool, why: str) -> None:
        if pool.why == why and pool.queued and self._state.pools.get(pool.id) is pool:
            for job in self._state.store.waiting_ids(pool.id, _LINES_TO):
                self._followers.state(job, "IN_QUEUE", why=why)

    # ── environments ──────────────────────────────────────────────────────────────────────────────

    def _ensure_environment(self, pool: Pool) -> None:
        host = self._connected_host()
        environment = pool.environment
        if host is None or environment.state != "unknown":
            return
        environment.state = "building"
        environment.asked_at = self._state.clock.monotonic()
        environment.ready_at = 0.0
        spec = pool.spec
        request = messages.EnsureEnv(
            env=environment.key,
            interpreter=spec.interpreter,
            abi=spec.abi,
            requirements=list(spec.requirements),
            system=list(spec.system),
            index=spec.index,
            variables=spec.base_env,
        )
        self._state.turn.send(host.link, request.encode(sid=self._next_sid()))

    def environment_said(self, head: messages.EnvState) -> None:
        """A build goes on, is done, or has failed."""
        environment = self._state.environments.get(head.env)
        if environment is None:
            return
        if head.line:
            environment.lines.append(head.line)
        for pool in environment.pools:
            if pool.queued:
                self._followers.environment(self._state.store.waiting_ids(pool.id, _LINES_TO), head)
        if head.phase == "ready":
            environment.state, environment.path, environment.lock = "ready", head.path, head.lock
            environment.ready_at = self._state.clock.monotonic()
            if head.ms > 50:
                self._state.event("environment_built", {"environment": head.lock, "ms": head.ms})
            self.replan()
        elif head.phase == "failed":
            self._environment_failed(environment, head.error)

    def _environment_failed(self, environment: Environment, why: str) -> None:
        environment.state = "unknown"
        error = ErrorInfo(type="DependencyError", module="runpod_flash.errors", message=why, kind=ErrorKind.ENV)
        for pool in environment.pools:
            failed = self._queue.fail_waiting(pool, error)
            data = {"error": why.splitlines()[0] if why else "", "jobs": failed}
            self._state.event("environment_failed", data, endpoint=pool.endpoint.id)

    def cancel_unwanted_builds(self) -> None:
        """Nobody waits for these environments any more."""
        host = self._state.host
        for environment in self._state.environments.values():
            if environment.state != "building" or host is None or host.link is None:
                continue
            wanted = any(
                pool.queued or (pool.endpoint.spec.workers_min and pool.endpoint.holders) for pool in environment.pools
            )
            if not wanted:
                environment.state = "unknown"
                self._state.turn.send(host.link, messages.CancelEnv(env=environment.key).encode())

    # ── workers ───────────────────────────────────────────────────────────────────────────────────

    def _launch(self, pool: Pool, gpus: tuple[int, ...]) -> None:
        host = self._connected_host()
        if host is None:
            return
        now = self._state.clock.wall_ms()
        name, key = f"w{secrets.token_hex(5)}", secrets.token_hex(16)
        worker = Worker(name, pool, host.id, _hash(key), gpus=gpus, launched_ms=now)
        worker.launched_at = self._state.clock.monotonic()
        worker.away_since = worker.launched_at
        gpu_text = msgspec.json.encode(list(gpus)).decode()
        self._state.turn.write().add_worker(name, pool.id, host.id, worker.key_hash, gpu_text, now)
        self._state.workers[name] = pool.workers[name] = worker
        spec = pool.spec
        launch = messages.Launch(
            worker=name,
            key=key,
            endpoint=pool.endpoint.spec.name,
            env=pool.environment.path,
            runtime=spec.runtime,
            variables={**spec.base_env, **spec.variables},
            gpus=list(gpus),
            memory_mb=spec.memory_mb,
            cpus=spec.cpus,
        )
        self._state.turn.send(host.link, launch.encode(sid=self._next_sid()))

    def launched(self, head: messages.Launched) -> None:
        """The host has started a worker, or could not."""
        worker = self._state.workers.get(head.worker)
        if worker is None:
            return
        worker.pid, worker.how = head.pid, head.how
        if head.error:
            # The folder may have been removed under us: ask the host again, which builds what is missing.
            worker.pool.environment.state = "unknown"
            self._remove(worker, f"not started: {head.error}")
            self._start_failed(worker.pool, head.error)
            self.replan()

    def ready(self, worker: Worker, head: Ready) -> None:
        """A worker is there, for the first time or again."""
        store = self._state.turn.write()
        now = self._state.clock.monotonic()
        if not worker.ready_at:
            worker.ready_at = now
            store.worker_ready(worker.id, self._state.clock.wall_ms())
        worker.pool.failed_starts = 0
        worker.sent.clear()
        held = {(job, epoch) for job, epoch in head.held}
        for job in [job for job in worker.inflight if (job.job, job.epoch) not in held]:
            worker.inflight.remove(job)  # its START was lost with the last link
            self._queue.lost(job, worker, started=False, why=ErrorInfo(type="Released", message="never arrived"))
        for name, epoch in held - {(job.job, job.epoch) for job in worker.inflight}:
            self._state.turn.send(worker.link, messages.Cancel(job=name, epoch=epoch, cause="stale").encode())
        if worker.state == "stopping":
            self._dispatcher.stop(worker, worker.stop_why)
            return
        worker.state = "busy"
        worker.last_done = now
        self._dispatcher.begin_next(worker)
        for job in list(worker.inflight):
            if job.cancelling:
                self._queue.tell_cancelled(worker, job)
        self._dispatcher.fill(worker)
        self._dispatcher.rest(worker)
        self.replan()

    def exited(self, head: Exited) -> None:
        """A worker is gone: its jobs are lost, late, cancelled, or go back, each as it stood."""
        worker = self._state.workers.get(head.worker)
        if worker is None:
            return
        current = (head.current.job, head.current.epoch) if head.current else None
        begun = [index for index, job in enumerate(worker.inflight) if (job.job, job.epoch) == current]
        self._end_worker(worker, head, begun[0] if begun else -1)

    def _end_worker(self, worker: Worker, head: Exited, last_begun: int) -> None:
        jobs = list(worker.inflight)
        worker.inflight.clear()
        never_ready = not worker.ready_at
        if not self._state.draining and (jobs or (never_ready and worker.state != "stopping")):
            data = {"worker": worker.id, "code": head.code, "signal": head.signal, "why": head.why}
            self._state.event("worker_lost", data, endpoint=worker.pool.endpoint.id)
        self._remove(worker, head.why or worker.stop_why or "exited")
        for index, job in enumerate(jobs):
            self._settle(worker, job, head, started=index <= last_begun, running=index == last_begun)
        if never_ready and worker.state != "stopping" and head.why != "host":
            self._start_failed(worker.pool, "\n".join(head.last_lines) or exit_error(head, None).message)
        self.replan()

    def _settle(self, worker: Worker, job: Active, head: Exited, *, started: bool, running: bool) -> None:
        if started and (job.killing == "timeout" or (running and head.why == "deadline")):
            message = f"the attempt took longer than its timeout of {job.timeout_ms / 1000:g} s"
            error = ErrorInfo(type="TimeoutError", message=message, kind=ErrorKind.TIMEOUT)
            self._queue.lost(job, worker, started=True, why=error)
        elif worker.stop_why in {"stop", "engine"} and not job.cancelling:
            self._queue.given_back(job, worker, started=started)
        else:
            self._queue.lost(job, worker, started=started, why=exit_error(head, worker.pool.spec.memory_mb))

    def _remove(self, worker: Worker, end: str) -> None:
        forget(worker.pool, worker)
        self._state.workers.pop(worker.id, None)
        self._state.turn.write().end_worker(worker.id, end[:500], self._state.clock.wall_ms())
        if worker.link is not None:
            worker.link.close()
            worker.link = None

    def _start_failed(self, pool: Pool, why: str) -> None:
        """Backs off; after three starts in a row that failed, nothing of this pool can run."""
        pool.failed_starts += 1
        pause = min(_LONGEST_BLOCK_S, _FIRST_BLOCK_S * 2 ** (pool.failed_starts - 1))
        pool.blocked_until = self._state.clock.monotonic() + pause
        if pool.failed_starts >= _START_TRIES:
            pool.failed_starts = 0
            message = f"its workers cannot start ({_START_TRIES} tries):\n{why}"
            self._queue.fail_waiting(
                pool,
                ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=message, kind=ErrorKind.ENV),
            )

    def check_deadlines(self) -> None:
        """Ends workers whose call is over its time: at once for a plain function, after the grace for async.

        The worker itself ends async calls, and the host ends what outlives both, also while there is no engine.
        """
        now = self._state.clock.monotonic()
        for worker in list(self._state.workers.values()):
            if not worker.inflight or (worker.state == "stopping" and worker.stop_why == "timeout"):
                continue
            job = worker.inflight[0]
            grace = 5.5 if job.fn.spec.is_async else 0.0
            if job.timeout_ms and job.begun_at and now > job.begun_at + job.timeout_ms / 1000 + grace:
                job.killing = "timeout"
                self._dispatcher.stop(worker, "timeout")
            elif len(worker.inflight) > 1 and now > max(worker.last_done, job.begun_at) + 0.2:
                self._release_ahead(worker)

    def _release_ahead(self, worker: Worker) -> None:
        """The call in front turned out long: those behind it go to whoever is free."""
        job = worker.inflight[0]
        job.fn.run_us = max(job.fn.run_us, 200_000.0)
        for waiting in list(worker.inflight)[1:]:
            head = messages.Cancel(job=waiting.job, epoch=waiting.epoch, cause="release", only_waiting=True)
            self._state.turn.send(worker.link, head.encode())

    # ── the host ──────────────────────────────────────────────────────────────────────────────────

    def recover(self) -> None:
        """Takes up the workers and the host that were there when the engine ended."""
        now = self._state.clock.monotonic()
        for row in self._state.store.open_workers():
            pool = self._state.pools[row.pool]
            worker = Worker(
                row.id, pool, row.host, row.key_hash, state="busy" if row.ready else "starting", gpus=row.gpus
            )
            worker.away_since = worker.launched_at = now
            worker.launched_ms = self._state.clock.wall_ms()
            self._state.workers[row.id] = pool.workers[row.id] = worker
        hosts = self._state.store.open_hosts()
        for name, key_hash, pid in hosts:
            if _alive(pid) and self._state.host is None:
                self._state.host = Host(name, key_hash, pid, seen_at=now)
            else:
                self._state.turn.write().end_host(name, self._state.clock.wall_ms())

    def want_host(self) -> None:
        """Has a host started unless there is one or one is on its way."""
        self._connected_host()

    def _connected_host(self) -> Host | None:
        host = self._state.host
        if host is not None and host.link is not None:
            return host
        if host is None and not self._starting_host and not self._state.draining:
            self._start_host()
        return None

    def _start_host(self) -> None:
        self._starting_host = True
        name, key = secrets.token_hex(6), secrets.token_hex(16)
        home = self._state.settings.home
        try:
            process = self._provider.start(self._rundir / "s", home, self._rundir, key)
        except OSError as error:
            logger.error("the host cannot be started: %s", error)
            self._starting_host = False
            self._state.call_later(_FIRST_BLOCK_S * 5, self.replan)
            return
        now = self._state.clock.wall_ms()
        self._state.turn.write().add_host(name, _hash(key), process.pid, "{}", now)
        self._state.host = Host(name, _hash(key), process.pid, seen_at=self._state.clock.monotonic())
        self._starting_host = False
        self._watch(process, lambda: self._host_died(name))

    def host_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A host has connected: ours, or one that nobody waits for."""
        host = self._state.host
        if host is None or _hash(hello.key) != host.key_hash:
            return Refuse(
                code="unknown_host",
                what="this engine did not start this host",
                why="another has taken its place",
            )
        host.link, host.pid = link, hello.pid
        host.machine = hello.machine or Machine(cpus=os.cpu_count() or 1, memory_mb=0)
        host.seen_at = self._state.clock.monotonic()
        link.state = host
        for pool in self._state.pools.values():
            self._registry.place(pool)
        for environment in self._state.environments.values():
            if environment.state == "building":
                environment.state = "unknown"  # asked of another host, or lost with the last link
        alive = {presence.worker for presence in hello.workers}
        for name in alive - self._state.workers.keys():
            self._state.turn.send(link, messages.Stop(worker=name, why="stale").encode())
        missing = [worker for worker in self._state.workers.values() if worker.id not in alive]
        if missing:
            self._state.call_later(_REPORTS_WITHIN_S, self._give_up_on, missing)
        self.replan()
        return None

    def worker_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A worker's stream has been opened by its host."""
        worker = self._state.workers.get(hello.worker)
        if worker is None or _hash(hello.key) != worker.key_hash:
            return Refuse(code="unknown_worker", what=f"no worker {hello.worker!r} of that key is on record")
        if worker.link is not None:
            worker.link.close()
        worker.link, worker.away_since = link, 0.0
        link.state = worker
        return None

    def left(self, link: Link) -> None:
        """A host's or a worker's link is gone; they may come back."""
        now = self._state.clock.monotonic()
        if isinstance(link.state, Worker) and link.state.link is link:
            worker = link.state
            worker.link, worker.away_since = None, now
            if worker in worker.pool.idle:
                worker.pool.idle.remove(worker)
                worker.state = "busy"
        elif isinstance(link.state, Host) and link.state.link is link:
            link.state.link = None
            link.state.seen_at = now
            self._state.call_later(0.25, self.check_host)

    def check_host(self) -> None:
        """Without its link a host is looked after: dead, or away for too long, it is given up."""
        host = self._state.host
        if host is None or host.link is not None or self._state.draining:
            return
        away = self._state.clock.monotonic() - host.seen_at
        if not _alive(host.pid) or away > max(_ADOPT_WITHIN_S, self._state.settings.lease):
            self._host_died(host.id)
        else:
            self._state.call_later(0.25, self.check_host)

    def _host_died(self, name: str) -> None:
        """Its workers died with it. A new host reports what each of them was doing."""
        host = self._state.host
        if host is None or host.id != name:
            return
        logger.warning("the host %s (pid %d) is gone", name, host.pid)
        link, host.link = host.link, None
        self._state.host = None
        self._state.turn.write().end_host(name, self._state.clock.wall_ms())
        if link is not None:
            link.state = None
            link.close()
        if self._state.workers or any(pool.queued for pool in self._state.pools.values()):
            self.want_host()
        self.replan()

    def _give_up_on(self, workers: list[Worker]) -> None:
        """No report came about these: whatever they had may have run."""
        for worker in workers:
            if self._state.workers.get(worker.id) is worker and worker.link is None:
                self._end_worker(worker, Exited(worker=worker.id, why="host"), len(worker.inflight) - 1)

    def beat(self, link: Link, head: messages.Beat, sid: int) -> None:
        """The host is well, and so are these workers."""
        if isinstance(link.state, Host):
            link.state.seen_at = self._state.clock.monotonic()
        stale = []
        for name, rss_kb, cpu_ms in head.workers:
            worker = self._state.workers.get(name)
            if worker is None:
                stale.append(name)
            else:
                worker.rss_kb, worker.cpu_ms = rss_kb, cpu_ms
        self._state.turn.send(link, messages.BeatOk(stale=stale).encode(sid=sid))

    def ask_environments(self, request: messages.Head, then: Callable[[list[dict[str, Any]]], None]) -> bool:
        """Asks the host about environments; False if there is no host to ask."""
        host = self._connected_host()
        if host is None:
            return False
        sid = self._next_sid()
        self._asked_deps[sid] = then
        self._state.turn.send(host.link, request.encode(sid=sid))
        return True

    def environments_said(self, sid: int, head: messages.Rows) -> None:
        """The host's answer to `ask_environments`."""
        if then := self._asked_deps.pop(sid, None):
            then(head.rows)

    def _next_sid(self) -> int:
        self._sid += 2
        return self._sid


def _worker_view(worker: Worker, now: float) -> planning.WorkerView:
    state = worker.state
    return planning.WorkerView(
        id=worker.id,
        pool=worker.pool.id,
        state=state,
        idle_ms=int((now - worker.idle_since) * 1000) if state == "idle" else 0,
        gpus=worker.gpus,
        age_ms=int((now - worker.ready_at) * 1000) if worker.ready_at else 0,
    )


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
