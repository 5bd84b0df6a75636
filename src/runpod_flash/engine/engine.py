"""The engine's façade: every frame that arrives is given to the part that it concerns.

All of it runs in one thread, the loop's. Nothing here waits: what takes long happens in the host, in workers,
or in the store's reading thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash._version import __version__
from runpod_flash.engine.apps import Apps
from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.clock import Clock
from runpod_flash.engine.deployments import Deployments
from runpod_flash.engine.dispatcher import Dispatcher, active
from runpod_flash.engine.disuse import Disuse
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.hosts import Hosts, Watch, key_hash
from runpod_flash.engine.http_endpoints import HttpEndpoints
from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.purge import Purge
from runpod_flash.engine.questions import OnStop, Questions
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Active, Host, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.requests import Requests, refuse
from runpod_flash.engine.retention import Retention
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.streams import Streams
from runpod_flash.engine.timers import Timers
from runpod_flash.engine.transfers import Transfers
from runpod_flash.engine.turn import Link, Turn
from runpod_flash.engine.webhooks import Webhooks
from runpod_flash.errors import FlashError, StoreError
from runpod_flash.model.job import ErrorKind
from runpod_flash.providers.base import Provider
from runpod_flash.settings import Settings
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import ErrorInfo, Goodbye, Hello, Ok, Refuse, Welcome

logger = logging.getLogger(__name__)

_PLENTY: Final = 100
_LONG_TURN_S: Final = 0.001
_HOST_RETURNS_S: Final = 3.0
_BEAT_MS: Final = 2000  # what `flash ps` shows is not older

_PAUSE_S: Final = 0.5
"""After a turn that could not be committed: how long until the engine does anything of its own accord."""
_RECORD_TRIES: Final = 2
_LOOK_S: Final = 0.02
_UNDERSTOOD: Final = {kinds.PING, kinds.PONG, kinds.OK, kinds.ERROR, kinds.GOODBYE}
"""Frames that everybody may send, and that ask nothing of the engine."""

_encode = msgspec.json.encode
Handler = Callable[[Link, Frame, Any], None]


class Engine:
    """Queue, workers and record of one data folder."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        provider: Provider,
        rundir: Path,
        watch: Watch,
        clock: Clock | None = None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._store = store
        self._settings = settings
        self._links: set[Link] = set()
        self._stopped = False
        self._lost: list[tuple[Active, str]] = []  # jobs whose worker is not on record
        self._dead_hosts: list[str] = []
        self._unrecorded: dict[tuple[str, int], list[str]] = {}  # results, and the bugs of ours that they met
        self._taking_up: asyncio.TimerHandle | None = None
        self.on_stop_request: OnStop = lambda verb, args: None

        self._turn = turn = Turn(
            store,
            call_soon=self._end_turn,
            call_soon_threadsafe=loop.call_soon_threadsafe,
            on_failure=self._start_again,
        )
        self.state = state = State(store, turn, clock or Clock(store.last_wall_ms), settings, self._call_later)
        self._busy_at = state.clock.monotonic()
        self._registry = Registry(state)
        self._followers = Followers(state)
        dispatcher = Dispatcher(state)
        self._retention = Retention(state)
        self._streams = Streams(state, self._retention)
        self._queue = Queue(state, dispatcher, self._followers, self._streams)
        self._attempts = Attempts(state, dispatcher, self._followers, self._streams)
        self._hosts = Hosts(state, self._registry, provider, rundir, self._guarding(watch))
        self._relay = relay = Relay(state, dispatcher, self._followers)
        self.exchanges = Exchanges(state, self._registry, relay)
        self._environments = Environments(state, self._hosts, self._queue, self._followers, relay)
        self.programs = programs = Programs(
            state,
            dispatcher,
            join=self.worker_joined,
            receive=self.received,
            left=self.left,
            guarded=self._guarded,
        )
        self.http_jobs = HttpJobs(
            state,
            self._registry,
            self._queue,
            self._followers,
            self._streams,
            self._guarded,
            programs,
            HttpEndpoints(state, self._registry, dispatcher),
        )
        self.webhooks = Webhooks(state, self._followers, self.http_jobs)
        self._fleet = Fleet(
            state,
            dispatcher,
            self._queue,
            self._attempts,
            self._followers,
            self._hosts,
            self._environments,
            relay,
            programs,
        )
        self._dispatcher = dispatcher
        self._timers = Timers(state, loop, self._guarded, queue=self._queue, fleet=self._fleet, hosts=self._hosts)
        self._queue.expire_at_worker = self._attempts.expire
        self._deployments = Deployments(state, self._registry, self._hosts)
        self._disuse = Disuse(state, self._registry, self._oldest_client_ms)
        state.replan, state.look_within = self._fleet.replan, self._fleet.look_within
        state.wake_at = self._timers.wake_at
        self._handlers = self._all_handlers(rundir)

    def _all_handlers(self, rundir: Path) -> dict[str, dict[int, Handler]]:
        requests = Requests(
            self.state,
            self._registry,
            self._queue,
            self._attempts,
            self._hosts,
            self._environments,
            self._relay,
            self._streams,
        )
        self.http_jobs.cancel_job = requests.cancel_job
        purge = Purge(self.state, self._queue, self._attempts, self._retention)
        self.http_jobs.purge = purge.start
        questions = Questions(
            self.state,
            self._hosts,
            purge,
            Apps(self.state, self._deployments),
            rundir=rundir,
            clients=self._programs,
            on_stop=self._asked_to_stop,
            hold_blobs=self._retention.hold,
            withdraw=self._registry.withdraw,
        )
        return {
            "client": {
                kinds.DEPLOY: lambda link, message, head: self._deployments.deploy(link, message.sid, head),
                **requests.handlers,
                **questions.handlers,
                **Transfers(self.state, self._retention).handlers,
            },
            "worker": {
                kinds.DONE: self._done,
                kinds.CHUNK: self._chunk,
                kinds.PROGRESS: self._progress,
                kinds.RETURNED: lambda link, message, head: self._relay.returned(link.state, message, head),
                kinds.HTTP_RES: lambda link, message, head: self.exchanges.answer(link.state, message, head),
                kinds.DATA: lambda link, message, head: self.exchanges.data(link.state, message, head),
                kinds.CREDIT: lambda link, message, head: self.exchanges.credit(link.state, message, head),
                kinds.READY: lambda link, _message, head: self._fleet.ready(link, head),
            },
            "host": {
                kinds.LAUNCHED: lambda _link, _message, head: self._fleet.launched(head),
                kinds.EXITED: self._exited,
                kinds.SPAN: self._span,
                kinds.LOG: lambda _link, message, head: self._followers.log(head.job, message.head),
                kinds.BEAT: lambda link, message, head: self._hosts.beat(link, head, message.sid),
                kinds.ENV_STATE: lambda _link, _message, head: self._environments.said(head),
                kinds.ROWS: lambda _link, message, head: self._hosts.said(message.sid, head.rows),
            },
        }

    # ── start and stop, in order ──────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Takes up what the store says; jobs of workers that do not come back are found out about later."""
        self._remember()
        self._guarded(self._take_up)
        self._timers.start()
        self._retention.start()
        self._disuse.start()

    def _remember(self) -> None:
        """Reads into memory what the store says. Writes nothing: the disk may be full."""
        self._registry.recover()
        self._deployments.recover()
        for pool_id, instance, count, size in self._store.waiting():
            self.state.pools[pool_id].enter(size, instance, count)
        self.state.of_low_priority.update(self._store.pools_of_low_priority())
        self._fleet.recover()
        self.state.lineage.recover(self._store.awaited_below())
        self.webhooks.recover()
        self._dead_hosts = self._hosts.recover()
        self._lost.clear()
        now = self.state.clock.monotonic()
        for live in self._store.live():
            job = active(live.claimed, self.state.functions[live.claimed.fn], live.assigned_ms)
            job.cancelling, job.expired = "asked for" if live.cancelling else "", live.expired
            self.state.active[job.job] = job
            worker = self.state.workers.get(live.worker)
            if worker is None:
                self._lost.append((job, live.worker))
                continue
            job.begun_at = 0.0 if worker.inflight else now
            worker.loaded[job.fn.spec.name] = job.fn.spec.version
            worker.inflight.append(job)

    def _take_up(self) -> None:
        """Goes on from there."""
        self._taking_up = None
        now = self.state.clock.wall_ms()
        for name in self._dead_hosts:
            self._turn.write().end_host(name, now)
        for job, name in self._lost:
            worker = Worker(name, job.fn.pool, "", "", state="stopping")
            why = ErrorInfo(type="WorkerLost", message="its worker is not on record", kind="lost")
            self._attempts.lost(job, worker, started=True, why=why)
        self._dead_hosts, self._lost = [], []
        self._hosts.look()
        self.state.replan()

    def _start_again(self, error: StoreError) -> None:
        """A turn could not be committed: drop memory and links, and read the store again.

        Everybody reconnects: clients send their calls again (idempotent by job), workers their results.
        """
        logger.error("starting again from the store: %s", error)
        links, self._links = self._links, set()
        for link in links:
            link.state = None
            link.close()
        self._followers.clear()
        self._relay.clear()
        self._streams.clear()
        self.http_jobs.clear()
        self.state.clear()
        self.state.resume_at = self.state.clock.monotonic() + _PAUSE_S
        if self._taking_up is not None:
            self._taking_up.cancel()
        try:
            self._remember()
        except StoreError as again:
            logger.critical("the store cannot be read: %s", again)
            self.on_stop_request("failed", {"error": str(again)})
            return
        self._taking_up = self._call_later(_PAUSE_S, self._take_up)

    async def stop(self, *, reason: str, stop_host: bool, grace_s: float) -> None:
        """Leaves in order: nothing new, what runs may finish, what does not goes back, then everybody is told.

        May be cancelled and called again while it waits.
        """
        end = self.state.clock.monotonic() + grace_s
        if stop_host:
            self.state.draining = True
        else:
            self._relay.leaving = True  # jobs go on without an engine, so only what passes through it is waited for
        while self._has_to_end(stop_host) and self.state.clock.monotonic() < end:  # noqa: ASYNC110  (once in a life)
            await asyncio.sleep(_LOOK_S)
        self.state.draining = True
        self._guarded(self._relay.send_away)
        if stop_host:
            await self._await_host()
            self._guarded(self._fleet.give_back_all)
            self._guarded(self._hosts.end)
        self._guarded(self.http_jobs.answer_all)
        self._timers.stop()
        self._turn.close()
        self._stopped = True
        # Last of all, so that nobody goes before what was promised to him has arrived.
        goodbye = Goodbye(reason=reason, stop_host=stop_host).encode()
        for link in list(self._links):
            link.send(goodbye)

    def _has_to_end(self, stop_host: bool) -> bool:
        return self._relay.busy or (stop_host and bool(self.state.active))

    async def _await_host(self) -> None:
        """A host whose engine has just died comes back within a second: unless it hears GOODBYE, it starts another."""
        end = self.state.clock.monotonic() + _HOST_RETURNS_S
        while self._hosts.is_away() and self.state.clock.monotonic() < end:  # noqa: ASYNC110  (once in a life)
            await asyncio.sleep(_LOOK_S)

    def _asked_to_stop(self, verb: str, args: dict[str, Any]) -> None:
        self.on_stop_request(verb, args)

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
            beat_ms=min(lease // 3, _BEAT_MS),
            max_value=self._settings.max_value,
        )

    def client_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A program has connected, or the host of a worker, for calls from inside of it."""
        worker = self.state.workers.get(hello.worker) if hello.worker else None
        if hello.worker and (worker is None or key_hash(hello.key) != worker.key_hash):
            return Refuse(code="unknown_worker", what=f"no worker {hello.worker!r} of that key is on record")
        link.state = Client(since_ms=self.state.clock.wall_ms(), worker=worker)
        self._links.add(link)
        return None

    def host_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A host has connected, perhaps again."""
        if self.state.clock.monotonic() < self.state.resume_at:
            # With `handover`, for without it a host takes a refusal for good, and its workers with it. They bring
            # results at once, which must not meet a full disk over and over.
            return Refuse(code="store_unavailable", what="the store could not be written just now", handover=True)
        refused = self._joined(link, hello, self._hosts.joined)
        self.programs.host_came()
        return refused

    def worker_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """The stream of a worker has been opened."""
        return self._joined(link, hello, self._fleet.joined)

    def _joined(self, link: Link, hello: Hello, join: Callable[[Link, Hello], Refuse | None]) -> Refuse | None:
        self._links.add(link)
        refused = join(link, hello)
        if refused is not None:
            self._links.discard(link)
        return refused

    def left(self, link: Link) -> None:
        """A link is gone; what it asked for runs on."""
        self._links.discard(link)
        if self._stopped:
            return
        if isinstance(link.state, Client):
            self._followers.drop(link)
            self._streams.drop(link)
            self._relay.drop(link)
            self._registry.leave(link)
            self._deployments.drop(link)
            self._retention.release(link)
            self._busy_at = self.state.clock.monotonic()
        elif isinstance(link.state, Worker):
            self._guarded(lambda: self._fleet.left(link))
        elif isinstance(link.state, Host):
            self._hosts.left(link)
        link.state = None
        self.state.replan()

    def received(self, link: Link, message: Frame) -> None:
        """Every frame after HELLO. BadHead for a type that the role does not have, or a head that does not fit."""
        if self._stopped or link.state is None:
            return
        handler = self._handlers[link.role].get(message.kind)
        if handler is None:
            if message.kind in _UNDERSTOOD:
                return
            raise messages.BadHead(message.kind, f"not for a {link.role} to send")
        head = messages.decode(message)
        # A load-balanced call writes nothing; should the turn fail for another, it loses its link, as earlier ones do.
        if message.sid and link.role == "client" and message.kind != kinds.CALL:
            self._turn.asked(link, message.sid)
        try:
            handler(link, message, head)
        except StoreError as error:
            self._turn.fail(error)
        except FlashError as error:
            refuse(self.state, link, message.sid, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, callers wait for what it has prevented
            if isinstance(head, messages.Done):
                self._unrecorded.setdefault((head.job, head.epoch), []).append(f"{type(error).__name__}: {error}")
            self._at_fault(f"{kinds.NAMES[message.kind]} of a {link.role}", error)

    def _at_fault(self, during: str, error: Exception) -> None:
        """A bug of ours. Half a decision may lie in memory and in the turn: neither is kept, the store says what is."""
        logger.error("%s failed", during, exc_info=error)
        self._turn.fail(_Fault(f"the engine failed: {type(error).__name__}: {error}", fix="see engine.log; report it"))

    # ── workers and hosts ─────────────────────────────────────────────────────────────────────────

    def _done(self, link: Link, message: Frame, head: messages.Done) -> None:
        worker: Worker = link.state
        parts: Sequence[bytes] = message.parts
        faults = self._unrecorded.get((head.job, head.epoch)) if self._unrecorded else None
        if faults and len(faults) >= _RECORD_TRIES:
            # Its worker would send it again for ever.
            del self._unrecorded[head.job, head.epoch]
            head, parts = messages.Done(job=head.job, epoch=head.epoch, ok=False, error=_given_up(faults[-1])), ()
        self._attempts.done(worker, head, parts, message.head)
        self._dispatcher.stop_if_drained(worker)

    def _chunk(self, link: Link, message: Frame, head: messages.Chunk) -> None:
        if message.sid:
            self._relay.chunk(link.state, message)
        else:
            self._streams.chunk(link.state, head, message.parts)

    def _progress(self, link: Link, _message: Frame, head: messages.Progress) -> None:
        job = self.state.active.get(head.job)
        if job is not None and job in link.state.inflight:
            job.progress = _encode(head.value)

    def _exited(self, link: Link, message: Frame, head: messages.Exited) -> None:
        answer = Ok().encode(sid=message.sid, flags=kinds.END)
        self._fleet.exited(head, lambda: self._turn.promise(link, answer))

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
        live = self.state.active.get(head.job)
        if live is not None and live.attempt == head.attempt:
            live.lines_out = True
        self._followers.all_lines_are_out(head.job, head.attempt)
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=kinds.END))

    def _oldest_client_ms(self) -> int | None:
        clients = [link.state.since_ms for link in self._links if isinstance(link.state, Client)]
        return min(clients, default=None)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def idle_since(self) -> float | None:
        """Since when (steady seconds) there is nothing to do and nobody connected; None while there is."""
        busy = (
            self._programs()
            or self.state.active
            or self._relay.busy
            or any(pool.queued for pool in self.state.pools.values())
            or self._expects_a_delayed_job()
            or self.webhooks.pending
            or any(each.spec.origin != "script" for each in self.state.endpoints.values())
        )
        if busy:
            self._busy_at = self.state.clock.monotonic()
            return None
        return max(self._busy_at, self.exchanges.last_at)

    def _programs(self) -> int:
        """How many are connected; workers are here for them, also where they call."""
        return sum(1 for each in self._links if isinstance(each.state, Client) and each.state.worker is None)

    def _expects_a_delayed_job(self) -> bool:
        try:
            return self._store.next_times()[0] is not None
        except StoreError:
            return True  # we do not know

    def _call_later(self, delay: float, action: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, lambda: self._guarded(lambda: action(*arguments)))

    def _end_turn(self, finish: Callable[[], None]) -> None:
        """Ends this turn of the loop, or, with plenty at the workers, the millisecond.

        Then a commit, and every write to a socket, serves some dozen calls instead of one or two, and nobody waits
        for it: each worker has more than a millisecond of work ahead, and each of so many callers waits for longer.
        """
        if len(self.state.active) > _PLENTY:
            self._loop.call_later(_LONG_TURN_S, finish)
        else:
            self._loop.call_soon(finish)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Runs what a link or timer asks for; a store that fails then is a restart, as in any turn."""
        if self._stopped:
            return
        try:
            action()
        except StoreError as error:
            self._turn.fail(error)
        except Exception as error:  # noqa: BLE001 - as for what arrives
            self._at_fault("what was due", error)

    def _guarding(self, watch: Watch) -> Watch:
        return lambda process, ended: watch(process, lambda: self._guarded(ended))


class _Fault(StoreError):
    """Not the store's, but the way out is the same."""

    code = "internal"


def _given_up(why: str) -> ErrorInfo:
    message = f"the function returned, but the engine could not record its result ({why}); see engine.log; report it"
    return ErrorInfo(type="EngineError", module="runpod_flash.errors", message=message, kind=ErrorKind.ENCODE)
