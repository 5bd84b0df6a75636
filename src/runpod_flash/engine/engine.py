"""The engine's façade: every frame that arrives is given to the part that it concerns.

All of it runs in one thread, the loop's. Nothing here waits: what takes long happens in the host, in workers,
or in the store's reading thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash._version import __version__
from runpod_flash.engine.clock import Clock
from runpod_flash.engine.dispatcher import Dispatcher, active
from runpod_flash.engine.fleet import Fleet, HostProcess, Provider
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.queries import Queries
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Host, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.turn import Link, Turn
from runpod_flash.errors import FlashError, JobNotFound, StoreError
from runpod_flash.model.job import JobState
from runpod_flash.settings import Settings
from runpod_flash.wire import blobs, kinds, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Error, Goodbye, Hello, Ok, Refuse, Rows, Welcome
from runpod_flash.wire.messages import State as StateHead

logger = logging.getLogger(__name__)

_TICK_S: Final = 0.25
_SWEEP_S: Final = 60.0
_END: Final = kinds.END


class Engine:
    """Queue, workers and record of one data folder."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        provider: Provider,
        rundir: Path,
        watch: Callable[[HostProcess, Callable[[], None]], None],
        clock: Clock | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._store = store
        self._settings = settings
        self._rundir = rundir
        self._started_at = time.monotonic()
        self._links: set[Link] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._queue_timer: asyncio.TimerHandle | None = None
        self._recovering_until = 0.0
        self._busy_at = time.monotonic()
        self.on_stop_request: Callable[[str, dict[str, Any]], None] = lambda verb, args: None
        turn = Turn(
            store,
            call_soon=loop.call_soon,
            call_soon_threadsafe=loop.call_soon_threadsafe,
            on_failure=self._start_again,
        )
        clock = clock or Clock(store.last_wall_ms)
        self.state = State(store, turn, clock, settings, self._call_later)
        self._turn = turn
        self._registry = Registry(self.state)
        self._followers = Followers(self.state)
        self._dispatcher = Dispatcher(self.state)
        self._queue = Queue(self.state, self._dispatcher, self._followers)
        self._fleet = Fleet(
            self.state,
            self._registry,
            self._dispatcher,
            self._queue,
            self._followers,
            provider,
            rundir,
            watch,
        )
        self._queries = Queries(self.state)
        self.state.replan = self._replan
        self._handlers: dict[str, dict[int, Callable[[Link, Frame, Any], None]]] = {
            "client": {
                kinds.SUBMIT: self._submit,
                kinds.DECLARE: self._declare,
                kinds.PUT_DEF: self._put_def,
                kinds.GET_DEF: self._get_def,
                kinds.ATTACH: self._attach,
                kinds.CANCEL: self._cancel,
                kinds.RETRY: self._retry,
                kinds.QUERY: self._query,
                kinds.ADMIN: self._admin,
            },
            "worker": {kinds.DONE: self._done, kinds.READY: self._ready},
            "host": {
                kinds.LAUNCHED: self._launched,
                kinds.EXITED: self._exited,
                kinds.SPAN: self._span,
                kinds.LOG: self._log,
                kinds.BEAT: self._beat,
                kinds.ENV_STATE: self._env_state,
                kinds.ROWS: self._host_rows,
            },
        }

    # ── start and stop, in order ──────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Takes up what the store says; jobs of workers that do not come back are found out about later."""
        self._recover()
        self._tick()
        self._loop.call_later(1.0, self._sweep)
        self._replan()

    def _recover(self) -> None:
        self._registry.recover()
        for pool_id, count, size in self._store.waiting():
            pool = self.state.pools[pool_id]
            pool.queued = count
            pool.endpoint.args_bytes += size
        self._fleet.recover()
        now = self.state.clock.monotonic()
        orphans = []
        for live in self._store.live():
            job = active(live.claimed, self.state.functions[live.claimed.fn], live.assigned_ms)
            job.cancelling = "asked for" if live.cancelling else ""
            worker = self.state.workers.get(live.worker)
            if worker is None:
                orphans.append(job)
                continue
            job.begun_at = 0.0 if worker.inflight else now
            worker.inflight.append(job)
            self.state.active[job.job] = job
        for job in orphans:
            gone = Worker(job.job, job.fn.pool, "", "", state="stopping")
            why = messages.ErrorInfo(type="WorkerLost", message="its worker is not on record", kind="lost")
            self._queue.lost(job, gone, started=True, why=why)
        if self.state.host is not None:
            self._loop.call_later(_TICK_S, self._fleet.check_host)
        elif self.state.workers:
            self._fleet.want_host()

    def _start_again(self, error: StoreError) -> None:
        """A turn could not be committed: drop memory and links, and read the store again.

        Everybody reconnects: clients send their calls again (idempotent by job), workers their results.
        """
        logger.error("starting again from the store: %s", error)
        for link in list(self._links):
            link.state = None
            link.close()
        self._links.clear()
        self._followers.clear()
        self.state.clear()
        self._recovering_until = self.state.clock.monotonic() + 0.5
        try:
            self._recover()
        except StoreError as again:
            logger.critical("the store cannot be read: %s", again)
            self.on_stop_request("failed", {"error": str(again)})

    async def stop(self, *, reason: str, stop_host: bool, grace_s: float) -> None:
        """Leaves in order: nothing new, what runs may finish, what does not goes back, then everybody is told."""
        self.state.draining = True
        end = time.monotonic() + grace_s
        while self.state.active and time.monotonic() < end:  # noqa: ASYNC110  (a few looks, once in a life)
            await asyncio.sleep(0.02)
        if stop_host:
            for worker in list(self.state.workers.values()):
                worker.stop_why = "stop"
                self._fleet.exited(messages.Exited(worker=worker.id, why="stop", current=_front(worker)))
            if self.state.host is not None:
                self._turn.write().end_host(self.state.host.id, self.state.clock.wall_ms())
        for timer in (self._ticking, self._queue_timer):
            if timer is not None:
                timer.cancel()
        goodbye = Goodbye(reason=reason, stop_host=stop_host).encode()
        for link in list(self._links):
            self._turn.send(link, goodbye)
        self._turn.close()

    # ── links ─────────────────────────────────────────────────────────────────────────────────────

    def welcome(self, proto: int) -> Welcome:
        """What HELLO is answered with."""
        lease = int(self._settings.lease * 1000)
        return Welcome(
            proto=proto,
            engine=self._store.engine_id,
            start_no=self._store.start_no,
            version=__version__,
            pid=os.getpid(),
            data_dir=str(self._settings.home),
            blob_dir=str(self._settings.home / "blobs"),
            durability=self._store.durability,
            lease_ms=lease,
            beat_ms=lease // 3,
        )

    def client_joined(self, link: Link, hello: Hello) -> None:
        """A program has connected."""
        link.state = Client()
        self._links.add(link)

    def host_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A host has connected, perhaps again."""
        if self.state.clock.monotonic() < self._recovering_until:
            return Refuse(code="store_unavailable", what="the store could not be written just now; try again")
        refused: Refuse | None = self._guarded(lambda: self._fleet.host_joined(link, hello))
        if refused is None:
            self._links.add(link)
        return refused

    def worker_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """The stream of a worker has been opened."""
        refused = self._fleet.worker_joined(link, hello)
        if refused is None:
            self._links.add(link)
        return refused

    def left(self, link: Link) -> None:
        """A link is gone; what it asked for runs on."""
        self._links.discard(link)
        if isinstance(link.state, Client):
            self._followers.drop(link)
            self._registry.leave(link)
            self._busy_at = time.monotonic()
        elif isinstance(link.state, Worker | Host):
            self._guarded(lambda: self._fleet.left(link))
        self._replan()

    def received(self, link: Link, message: Frame) -> None:
        """Every frame after HELLO. BadHead for a type that the role does not have, or a head that does not fit."""
        handler = self._handlers[link.role].get(message.kind)
        if handler is None or link.state is None:
            if message.kind in {kinds.PING, kinds.OK, kinds.GOODBYE, kinds.PONG}:
                return
            raise messages.BadHead(message.kind, f"not for a {link.role} to send")
        head = messages.decode(message)
        try:
            handler(link, message, head)
        except StoreError as error:
            self._turn.asked(link, message.sid)
            self._turn.fail(error)
        except FlashError as error:
            self._refuse(link, message.sid, error)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Runs what a link or timer asks for; a store that fails then is a restart, as in any turn."""
        try:
            return action()
        except StoreError as error:
            self._turn.fail(error)
            return None

    def _refuse(self, link: Link, sid: int, error: FlashError) -> None:
        retry = getattr(error, "retry_after_ms", None)
        head = Error(code=error.code, what=error.what, why=error.why or "", fix=error.fix or "", retry_after_ms=retry)
        self._turn.send(link, head.encode(sid=sid, flags=_END | kinds.FAILED))

    # ── clients ───────────────────────────────────────────────────────────────────────────────────

    def _submit(self, link: Link, message: Frame, head: messages.Submit) -> None:
        fn = self.state.functions.get(head.fn)
        if fn is None:
            raise _UnknownFunction(f"function {head.fn} is not declared here")
        self._turn.asked(link, message.sid)
        self._queue.submit(link, message.sid, fn, head, message.parts)

    def _declare(self, link: Link, message: Frame, head: messages.Declare) -> None:
        self._turn.asked(link, message.sid)
        self._fleet.want_host()
        if head.pool.gpus and (self.state.host is None or self.state.host.machine is None):
            # What to say about GPUs depends on the machine, which the host has yet to describe.
            self._when_host_is_there(lambda: self._answer_declare(link, message, head), tries=40)
        else:
            self._answer_declare(link, message, head)

    def _when_host_is_there(self, action: Callable[[], None], tries: int) -> None:
        if tries == 0 or (self.state.host is not None and self.state.host.machine is not None):
            self._guarded(action)
        else:
            self._loop.call_later(0.025, self._when_host_is_there, action, tries - 1)

    def _answer_declare(self, link: Link, message: Frame, head: messages.Declare) -> None:
        declared = self._registry.declare(link, head)
        self._turn.promise(link, declared.encode(sid=message.sid, flags=_END))
        self._replan()

    def _put_def(self, link: Link, message: Frame, head: messages.PutDef) -> None:
        self._turn.asked(link, message.sid)
        body = message.parts[0] if message.parts else b""
        self._turn.write().save_definition(head.digest, head.name, body, self.state.clock.wall_ms())
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def _get_def(self, link: Link, message: Frame, head: messages.GetDef) -> None:
        body = self._store.definition(head.digest)
        if body is None:
            raise _NoDefinition(f"there is no definition {head.digest!r}")
        self._turn.send(link, messages.Def(digest=head.digest).encode((body,), sid=message.sid, flags=_END))

    def _attach(self, link: Link, message: Frame, head: messages.Attach) -> None:
        if head.wait:
            if not self._queue.attach(link, message.sid, head.job, wait=True, logs=head.logs):
                raise _no_job(head.job)
            return
        row = self._store.job(head.job)
        if row is None:
            raise _no_job(head.job)
        live = self.state.active.get(head.job)
        status = JobState(row["state"]).status
        if live is not None:
            status = (JobState.RUNNING if live.begun_at else JobState.ASSIGNED).status
        answer = StateHead(job=head.job, status=status, attempt=row["attempt"], worker=row["worker"] or "")
        self._turn.send(link, answer.encode(sid=message.sid, flags=_END))

    def _cancel(self, link: Link, message: Frame, head: messages.Cancel) -> None:
        self._turn.asked(link, message.sid)
        before = self._queue.cancel(head.job, head.cause or "asked for")
        if before is None:
            raise _no_job(head.job)
        if before.is_terminal:
            raise _AlreadyEnded(f"job {head.job} has ended already ({before.status})")
        self._fleet.cancel_unwanted_builds()
        if message.sid:
            self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def _retry(self, link: Link, message: Frame, head: messages.Retry) -> None:
        self._turn.asked(link, message.sid)
        if not self._queue.again(head.job):
            row = self._store.job(head.job)
            if row is None:
                raise _no_job(head.job)
            raise _NotRetryable(
                f"job {head.job} is {JobState(row['state']).status}",
                why="only jobs that FAILED or TIMED_OUT can be tried again",
            )
        self._turn.promise(link, messages.Accepted(job=head.job, existing=True).encode(sid=message.sid, flags=_END))

    # ── workers ───────────────────────────────────────────────────────────────────────────────────

    def _done(self, link: Link, message: Frame, head: messages.Done) -> None:
        worker: Worker = link.state
        self._queue.done(worker, head, message.parts)
        if worker.state == "stopping" and not worker.inflight and not self.state.draining:
            self._dispatcher.stop(worker, worker.stop_why, grace_ms=2000)

    def _ready(self, link: Link, _message: Frame, head: messages.Ready) -> None:
        self._fleet.ready(link.state, head)

    # ── host ──────────────────────────────────────────────────────────────────────────────────────

    def _launched(self, _link: Link, _message: Frame, head: messages.Launched) -> None:
        self._fleet.launched(head)

    def _exited(self, link: Link, message: Frame, head: messages.Exited) -> None:
        self._fleet.exited(head)
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def _span(self, link: Link, message: Frame, head: messages.Span) -> None:
        row = (
            head.job,
            head.attempt,
            head.worker,
            head.segment,
            head.start,
            head.length,
            head.lines,
            head.cut,
        )
        self._turn.write().add_span(row)
        self._followers.all_lines_are_out(head.job, head.attempt)
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def _log(self, _link: Link, message: Frame, head: messages.Log) -> None:
        self._followers.log(head.job, message.head)

    def _beat(self, link: Link, message: Frame, head: messages.Beat) -> None:
        self._fleet.beat(link, head, message.sid)

    def _env_state(self, _link: Link, _message: Frame, head: messages.EnvState) -> None:
        self._fleet.environment_said(head)

    def _host_rows(self, _link: Link, message: Frame, head: Rows) -> None:
        self._fleet.environments_said(message.sid, head)

    # ── questions ─────────────────────────────────────────────────────────────────────────────────

    def _query(self, link: Link, message: Frame, head: messages.Query) -> None:
        sid = message.sid
        if head.what == "endpoints":
            self._answer(link, sid, self._queries.endpoints())
        elif head.what == "workers":
            self._answer(link, sid, self._queries.workers())
        elif head.what == "deps":
            self._ask_deps(link, sid)
        elif head.what == "status":
            self._turn.in_thread(self._queries.counts, lambda counts, error: self._status(link, sid, counts, error))
        else:
            work = self._queries.reader(head)
            self._turn.in_thread(work, lambda rows, error: self._answer_read(link, sid, head, rows, error))

    def _answer_read(self, link: Link, sid: int, query: messages.Query, rows: Any, error: Exception | None) -> None:
        if error is None:
            self._answer(link, sid, self._queries.finish(query, rows))
        elif isinstance(error, FlashError):
            self._refuse(link, sid, error)
        else:
            logger.error("QUERY %s failed", query.what, exc_info=error)
            self._refuse(link, sid, FlashError(f"the engine could not answer: {error}"))

    def _answer(self, link: Link, sid: int, rows: Rows) -> None:
        self._turn.send(link, rows.encode(sid=sid, flags=_END))

    def _ask_deps(self, link: Link, sid: int, tries: int = 40) -> None:
        asked = self._fleet.ask_environments(messages.ListEnvs(), lambda rows: self._answer(link, sid, Rows(rows=rows)))
        if not asked and tries:
            self._loop.call_later(0.05, self._ask_deps, link, sid, tries - 1)
        elif not asked:
            self._refuse(link, sid, FlashError("the host does not answer", fix="see host.log in the data folder"))

    def _status(self, link: Link, sid: int, counts: Any, error: Exception | None) -> None:
        if error is not None:
            self._answer_read(link, sid, messages.Query(what="status"), None, error)
            return
        host = self.state.host
        row = {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": kinds.PROTO_MAX,
            "socket": str(self._rundir / "s"),
            "data_dir": str(self._settings.home),
            "durability": self._store.durability,
            "start_no": self._store.start_no,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "gateway_url": None,
            "token_file": None,
            "jobs": counts,
            "workers": len(self.state.workers),
            "clients": sum(1 for each in self._links if each.role == "client"),
            "host": {"pid": host.pid, "connected": host.link is not None} if host else None,
            "machine": msgspec.to_builtins(host.machine) if host and host.machine else {},
        }
        self._answer(link, sid, Rows(rows=[row]))

    def _admin(self, link: Link, message: Frame, head: messages.Admin) -> None:
        if head.verb in {"stop", "handover"}:
            self._turn.send(link, Ok().encode(sid=message.sid, flags=_END))
            self._turn.after(lambda: self.on_stop_request(head.verb, head.args))
        elif head.verb == "prune_deps":
            self._prune(link, message.sid, everything=bool(head.args.get("all")))
        else:
            raise _Unsupported(f"the engine has no verb {head.verb!r}")

    def _prune(self, link: Link, sid: int, *, everything: bool, tries: int = 40) -> None:
        used = {pool.environment.lock for pool in self.state.pools.values() if pool.workers or pool.queued}
        if not everything:
            used |= {environment.lock for environment in self.state.environments.values()}

        def told(rows: list[dict[str, Any]]) -> None:
            freed = sum(int(row.get("size", 0)) for row in rows)
            names = [row["id"] for row in rows]
            for environment in self.state.environments.values():
                if environment.lock in names:
                    environment.state = "unknown"
            self._turn.send(link, Ok(data={"removed": names, "bytes": freed}).encode(sid=sid, flags=_END))

        asked = self._fleet.ask_environments(messages.PruneEnvs(keep=sorted(used - {""})), told)
        if not asked and tries:
            self._loop.call_later(0.05, lambda: self._prune(link, sid, everything=everything, tries=tries - 1))
        elif not asked:
            self._refuse(link, sid, FlashError("the host does not answer", fix="see host.log in the data folder"))

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def idle_since(self) -> float | None:
        """Since when (steady seconds) there is nothing to do and nobody connected; None while there is."""
        busy = (
            any(each.role == "client" for each in self._links)
            or self.state.active
            or any(pool.queued for pool in self.state.pools.values())
            or self._store.next_times()[0] is not None
            or any(each.spec.origin == "deployed" for each in self.state.endpoints.values())
        )
        if busy:
            self._busy_at = time.monotonic()
            return None
        return self._busy_at

    def _replan(self) -> None:
        self._fleet.replan()
        self._set_queue_timer()

    def _set_queue_timer(self) -> None:
        """Wakes for the next delayed job and the next that expires."""
        if self._queue_timer is not None:
            return
        due, expires = self._store.next_times()
        times = [at for at in (due, expires) if at is not None]
        if times:
            wait = max(0.0, (min(times) - self.state.clock.wall_ms()) / 1000)
            self._queue_timer = self._loop.call_later(min(wait + 0.001, 3600.0), self._queue_time)

    def _queue_time(self) -> None:
        self._queue_timer = None
        self._guarded(self._queue.release_due)
        self._guarded(self._queue.expire)
        self._set_queue_timer()

    def _tick(self) -> None:
        """Deadlines of what runs; slowly when nothing does."""
        self._guarded(self._fleet.check_deadlines)
        self._ticking = self._loop.call_later(_TICK_S if self.state.active else 4 * _TICK_S, self._tick)

    def _sweep(self) -> None:
        """Forgets jobs that were kept long enough, and their blobs."""
        self._guarded(self._forget)
        self._loop.call_later(_SWEEP_S, self._sweep)

    def _forget(self) -> None:
        count, gone = self._turn.write().forget_outdated(self.state.clock.wall_ms())
        self._turn.after(lambda: self._remove_blobs(gone))
        if count:
            self._loop.call_later(0.05, lambda: self._guarded(self._forget))

    def _remove_blobs(self, names: list[str]) -> None:
        for name in names:
            blobs.remove(self._settings.home / "blobs", name)

    def _call_later(self, delay: float, action: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, lambda: self._guarded(lambda: action(*arguments)))


class _UnknownFunction(FlashError):
    code = "unknown_function"


class _NoDefinition(FlashError):
    code = "no_definition"


class _AlreadyEnded(FlashError):
    code = "already_ended"


class _NotRetryable(FlashError):
    code = "not_retryable"


class _Unsupported(FlashError):
    code = "unsupported"


class _NoJob(JobNotFound):
    code = "no_job"


def _no_job(job: str) -> _NoJob:
    return _NoJob(f"there is no job {job!r}", fix="see which there are: flash jobs")


def _front(worker: Worker) -> messages.Current | None:
    front = worker.inflight[0] if worker.inflight else None
    return messages.Current(front.job, front.epoch, front.attempt) if front and front.begun_at else None
