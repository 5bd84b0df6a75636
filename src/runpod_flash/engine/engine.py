"""The engine's façade: every frame that arrives is given to the part that it concerns.

All of it runs in one thread, the loop's. Nothing here waits: what takes long happens in the host, in workers,
or in the store's reading thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from runpod_flash.engine.apps import Apps
from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.clock import Clock
from runpod_flash.engine.deployments import Deployments
from runpod_flash.engine.dispatcher import Dispatcher
from runpod_flash.engine.disuse import Disuse
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.hosts import Hosts, Watch
from runpod_flash.engine.http_endpoints import HttpEndpoints
from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.idleness import Idleness
from runpod_flash.engine.links import Links
from runpod_flash.engine.planner import Planner
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.purge import Purge
from runpod_flash.engine.questions import OnStop, Questions
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.recovery import Recovery
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.reports import HostReports, WorkerReports
from runpod_flash.engine.requests import Requests, refuse
from runpod_flash.engine.retention import Retention
from runpod_flash.engine.starts import Starts
from runpod_flash.engine.state import State
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.streams import Streams
from runpod_flash.engine.timers import Timers
from runpod_flash.engine.transfers import Transfers
from runpod_flash.engine.turn import Link, Turn
from runpod_flash.engine.webhooks import Webhooks
from runpod_flash.errors import FlashError, StoreError
from runpod_flash.providers.base import Provider
from runpod_flash.settings import Settings
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Goodbye

logger = logging.getLogger(__name__)

_PLENTY: Final = 100
_TURN_EACH_S: Final = 10e-6
_LONGEST_TURN_S: Final = 0.004
_HOST_RETURNS_S: Final = 3.0

_PAUSE_S: Final = 0.5
"""After a turn that could not be committed: how long until the engine does anything of its own accord."""
_LOOK_S: Final = 0.02
_UNDERSTOOD: Final = {kinds.PONG, kinds.OK, kinds.ERROR, kinds.GOODBYE}
"""Frames that everybody may send, and that ask nothing of the engine. PING, too, is everybody's."""

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
        self._stopped = False
        self._taking_up: asyncio.TimerHandle | None = None
        self.on_stop_request: OnStop = lambda verb, args: None

        self._turn = Turn(
            store,
            call_soon=self._end_turn,
            call_soon_threadsafe=loop.call_soon_threadsafe,
            on_failure=self._start_again,
        )
        self.state = State(store, self._turn, clock or Clock(store.last_wall_ms), settings, self._call_later)
        self._build(provider, rundir, self._guarding(watch))

    def _build(self, provider: Provider, rundir: Path, watch: Watch) -> None:
        """Puts the parts together: those that decide about jobs, those that start workers, those that answer."""
        state, guarded = self.state, self._guarded
        self._registry = registry = Registry(state)
        self._followers = followers = Followers(state)
        dispatcher = Dispatcher(state)
        self._retention = retention = Retention(state)
        self._streams = streams = Streams(state, retention)
        self._queue = queue = Queue(state, dispatcher, followers, streams)
        self._attempts = attempts = Attempts(state, dispatcher, followers, streams)
        self._relay = relay = Relay(state, dispatcher, followers)
        self.exchanges = exchanges = Exchanges(state, registry, relay)
        self.programs = programs = Programs(
            state,
            dispatcher,
            join=lambda link, hello: self.links.worker_joined(link, hello),  # noqa: PLW0108 - these come below
            receive=self.received,
            left=self.left,
            guarded=guarded,
        )

        self._hosts = hosts = Hosts(state, registry, provider, rundir, watch)
        self._environments = environments = Environments(state, hosts, queue, followers, relay)
        starts = Starts(state, hosts, queue, relay)
        planner = Planner(state, dispatcher, queue, relay, followers, environments, starts)
        self._fleet = fleet = Fleet(state, dispatcher, attempts, hosts, relay, programs, starts)
        self._timers = Timers(state, self._loop, guarded, queue=queue, fleet=fleet, hosts=hosts)
        state.replan, state.look_by = planner.replan, planner.look_by
        state.wake_at = self._timers.wake_at
        queue.expire_at_worker = attempts.expire

        endpoints = HttpEndpoints(state, registry, dispatcher)
        self.http_jobs = HttpJobs(state, registry, queue, followers, streams, guarded, programs, endpoints)
        self.webhooks = webhooks = Webhooks(state, followers, self.http_jobs)
        self._deployments = deployments = Deployments(state, registry, hosts)
        # The relay before the followers, who know what the program waits for.
        keepers = relay.drop, followers.drop, streams.drop, registry.leave, deployments.drop, retention.release
        self.links = links = Links(state, hosts, fleet, programs, keepers=keepers, guarded=guarded)
        self._disuse = Disuse(state, registry, links.oldest_client_ms)
        self._idleness = Idleness(state, links, relay, exchanges, webhooks)
        self._recovery = Recovery(state, registry, deployments, fleet, webhooks, hosts, attempts)
        self._of_workers = WorkerReports(state, dispatcher, attempts, relay, exchanges, streams, fleet)
        of_host = HostReports(state, hosts, fleet, followers, environments)
        # Who takes a frame, and whether its sender is to be told if the turn cannot be committed. A load-balanced call
        # writes nothing; should the turn fail for another, it loses its link, as earlier ones do.
        self._handlers: dict[str, dict[int, tuple[Handler, bool]]] = {
            "client": {kind: (handler, kind != kinds.CALL) for kind, handler in self._answers(rundir).items()},
            "worker": {kind: (handler, False) for kind, handler in self._of_workers.handlers.items()},
            "host": {kind: (handler, False) for kind, handler in of_host.handlers.items()},
        }

    def _answers(self, rundir: Path) -> dict[int, Handler]:
        """What programs may ask."""
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
            clients=self.links.programs,
            on_stop=self._asked_to_stop,
            hold_blobs=self._retention.hold,
            withdraw=self._registry.withdraw,
        )
        return {
            kinds.DEPLOY: lambda link, message, head: self._deployments.deploy(link, message.sid, head),
            **requests.handlers,
            **questions.handlers,
            **Transfers(self.state, self._retention).handlers,
        }

    # ── start and stop, in order ──────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Takes up what the store says; jobs of workers that do not come back are found out about later."""
        self._recovery.remember()
        self._guarded(self._take_up)
        self._timers.start()
        self._retention.start()
        self._disuse.start()

    def _take_up(self) -> None:
        self._taking_up = None
        self._recovery.take_up()

    def _start_again(self, error: StoreError) -> None:
        """A turn could not be committed: drop memory and links, and read the store again.

        Everybody reconnects: clients send their calls again (idempotent by job), workers their results.
        """
        logger.error("starting again from the store: %s", error)
        self.links.close_all()
        self._followers.clear()
        self._relay.clear()
        self._streams.clear()
        self.http_jobs.clear()
        self.state.clear()
        self.state.resume_at = self.state.clock.monotonic() + _PAUSE_S
        if self._taking_up is not None:
            self._taking_up.cancel()
        try:
            self._recovery.remember()
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
        self.links.send_all(Goodbye(reason=reason, stop_host=stop_host).encode())

    def _has_to_end(self, stop_host: bool) -> bool:
        return self._relay.busy or (stop_host and bool(self.state.active))

    async def _await_host(self) -> None:
        """A host whose engine has just died comes back within a second: unless it hears GOODBYE, it starts another."""
        end = self.state.clock.monotonic() + _HOST_RETURNS_S
        while self._hosts.is_away() and self.state.clock.monotonic() < end:  # noqa: ASYNC110  (once in a life)
            await asyncio.sleep(_LOOK_S)

    @property
    def host_pid(self) -> int | None:
        """The process of the host, whoever has started it; None if there is none that has come."""
        host = self.state.host
        return host.pid if host is not None and host.came else None

    def _asked_to_stop(self, verb: str, args: dict[str, Any]) -> None:
        self.on_stop_request(verb, args)

    # ── what arrives ──────────────────────────────────────────────────────────────────────────────

    def left(self, link: Link) -> None:
        """A link is gone; what it asked for runs on."""
        if not self._stopped:
            self.links.left(link)

    def received(self, link: Link, message: Frame) -> None:
        """Every frame after HELLO. What is not for its sender to say, or cannot be read, costs that request alone."""
        if self._stopped or link.state is None:
            return
        taken = self._handlers[link.role].get(message.kind)
        if taken is None:
            self._take_other(link, message)
            return
        handler, asks = taken
        try:
            head = messages.decode(message)
        except messages.BadHead as error:
            _refuse(link, message, error)
            return
        if asks and message.sid:
            self._turn.asked(link, message.sid)
        try:
            handler(link, message, head)
        except StoreError as error:
            self._turn.fail(error)
        except FlashError as error:
            refuse(self.state, link, message.sid, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, callers wait for what it has prevented
            if isinstance(head, messages.Done):
                self._of_workers.not_recorded(head, error)
            self._at_fault(f"{kinds.NAMES[message.kind]} of a {link.role}", error)

    def _take_other(self, link: Link, message: Frame) -> None:
        if message.kind == kinds.PING:
            link.send(messages.Pong().encode(sid=message.sid, flags=kinds.END))
        elif message.kind not in _UNDERSTOOD:
            _refuse(link, message, messages.BadHead(message.kind, f"not for a {link.role} to send"))

    def _at_fault(self, during: str, error: Exception) -> None:
        """A bug of ours. Half a decision may lie in memory and in the turn: neither is kept, the store says what is."""
        logger.error("%s failed", during, exc_info=error)
        self._turn.fail(_Fault(f"the engine failed: {type(error).__name__}: {error}", fix="see engine.log; report it"))

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def idle_since(self) -> float | None:
        """Since when (steady seconds) there is nothing to do and nobody connected; None while there is."""
        return self._idleness.since()

    def _call_later(self, delay: float, action: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(delay, lambda: self._guarded(lambda: action(*arguments)))

    def _end_turn(self, finish: Callable[[], None]) -> None:
        """Ends this turn of the loop, or, with plenty of short jobs at workers, ten microseconds for each of them.

        Then a commit, and every write to a socket, serves dozens of calls instead of one or two. The many do not wait
        for it: each worker has more than that to do, and each of so many callers waits several times as long.
        """
        behind = self._waiting_at_workers() if len(self.state.active) > _PLENTY else 0
        if behind > _PLENTY:
            self._loop.call_later(min(behind * _TURN_EACH_S, _LONGEST_TURN_S), finish)
        else:
            self._loop.call_soon(finish)

    def _waiting_at_workers(self) -> int:
        """Jobs that stand behind another at their worker, which only short ones do."""
        workers = self.state.workers.values()
        return sum(len(one.inflight) - 1 for one in workers if len(one.inflight) > 1 and not one.pool.asks)

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


def _refuse(link: Link, message: Frame, why: messages.BadHead) -> None:
    head = messages.Error(code="bad_request" if message.kind in messages.HEADS else "unsupported", what=str(why))
    link.send(head.encode(sid=message.sid, flags=kinds.END | kinds.FAILED))


class _Fault(StoreError):
    """Not the store's, but the way out is the same."""

    code = "internal"
