"""Load-balanced requests: from whoever asks to a worker and back, through memory alone.

A worker has many at once. What it answers goes to the caller as it came; nothing is on record, so nothing is run
again: a call whose worker was lost may have run, and its caller is told just that. Only what came over HTTP with a
method that may be repeated goes to another worker, as long as no byte of an answer was there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from runpod_flash.engine import affinity, homes
from runpod_flash.engine.dispatcher import IDLE_GRACE_MS, Dispatcher
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.lineage import CALLER_ENDED, CALLER_LOST
from runpod_flash.engine.outcomes import exit_error
from runpod_flash.engine.queue import check_blobs
from runpod_flash.engine.records import ClientCall, Exchange, Function, Pool, Request, Waiter, Worker
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.turn import Link
from runpod_flash.engine.waiting import Waiting
from runpod_flash.errors import EngineRefused
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Call, Cancel, Error, ErrorInfo, Exited, Returned, Taken

NEIGHBOURS_S: Final = 5.0
"""A worker with a call that cannot be ended is replaced, and the others on it have this long to finish."""
LONGEST_DRAIN_S: Final = 300.0
"""How long what an application or a program has begun to answer may go on when its worker takes nothing new."""
REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods of which two requests do what one does, so that one whose worker was lost may be given to another."""
MOST_LOSSES: Final = 3
"""Workers that one request may cost."""
_SLACK_S: Final = 10.0
_STUCK: Final = "stuck"
_SERVES: Final = frozenset({"idle", "busy"})
_LEFT: Final = ErrorInfo(
    type="EngineRefused",
    module="runpod_flash.errors",
    message="the engine left before a worker was free; nothing has run",
    kind=ErrorKind.ENV,
)
_STARTED_AGAIN: Final = ErrorInfo(
    type="StoreError", module="runpod_flash.errors", message="the engine had to start again", kind=ErrorKind.LOST
)


class Leaving(EngineRefused):
    """The engine leaves, and has begun nothing of what was asked: the next one may be asked without harm."""

    code = "leaving"


class Relay:
    """Hands calls to workers, and answers to callers."""

    def __init__(self, state: State, dispatcher: Dispatcher, followers: Followers) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._followers = followers
        self._lineage = state.lineage
        followers.caller_of = self._caller_of
        self._now = state.clock.monotonic
        self._requests: dict[str, Request] = {}
        self._numbers = count(2, 2)  # even, as every stream that the engine opens
        self._waiting = Waiting()
        self.leaving = False  # the engine is about to leave its workers to the next one: what comes is that one's

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._requests)

    def request(self, call: str) -> Request | None:
        """A call or request that is under way, or waits."""
        return self._requests.get(call)

    def _caller_of(self, call: str) -> Waiter | None:
        request = self._requests.get(call)
        return Waiter(request.link, request.sid, request.head.logs) if isinstance(request, ClientCall) else None

    def clear(self) -> None:
        """Forgets everything; every link is being closed."""
        requests, self._requests = self._requests, {}
        self._waiting.clear()
        for request in requests.values():
            if isinstance(request, Exchange):
                request.asker.fail(_STARTED_AGAIN)

    # ── asked ─────────────────────────────────────────────────────────────────────────────────────

    def call(self, link: Link, sid: int, fn: Function, head: Call, parts: Sequence[bytes]) -> None:
        """A call arrives: to a worker with room, or it waits for one."""
        id = head.call
        if id in self._requests or not id.isascii():
            raise EngineRefused(f"{id!r} cannot be the id of a call", why="it is in use, or not ASCII")
        if head.blobs:
            check_blobs(self._state, head.blobs)
        request = ClientCall(
            id=id,
            fn=fn,
            timeout_ms=head.timeout_ms,
            asked_at=self._now(),
            defs=head.defs,
            instance=head.instance,
            link=link,
            sid=sid,
            head=head,
            parts=parts,
        )
        worker = self._enter(request)
        link.state.follows[sid] = id
        if head.parent is not None:
            self._lineage.awaits(head.parent[0], id)
        if worker is not None:
            self._send(worker, request, request.asked_at)

    def take(self, exchange: Exchange) -> None:
        """A request has come over HTTP."""
        worker = self._enter(exchange)
        if worker is not None:
            self._send(worker, exchange, exchange.asked_at)

    def _enter(self, request: Request) -> Worker | None:
        """The worker that has room; else the request waits for one, if it may."""
        if self._state.draining or self.leaving:
            raise Leaving("the engine is leaving", why="load-balanced calls are for the next one")
        worker = self._choose(request)
        if worker is None:
            if request.strict and not affinity.is_there(request.fn.pool, request.wanted):
                raise affinity.WorkerGone(request.wanted)
            if not request.fn.pool.endpoint.spec.workers_max:
                raise EngineRefused("it is not served any more", why="it was taken away, by whoever had served it")
            self._wait(request)
        self._requests[request.id] = request
        return worker

    def send_away(self) -> None:
        """The engine leaves: what has not begun is told to try the next one."""
        for pool in self._state.pools.values():
            while pool.requests:
                request = self._waiting.take_next(pool)
                if isinstance(request, ClientCall):
                    error = Error(code=Leaving.code, what="the engine has left")
                    self._finish(request, error.encode(sid=request.sid, flags=kinds.END | kinds.FAILED))
                else:
                    self._answer(request, _LEFT)

    def cancel(self, call: str, cause: str) -> bool:
        """Its caller does not want it any more; False if there is no such call."""
        request = self._requests.get(call)
        if request is None:
            return False
        self._state.lineage.abandon(call, cause)
        if request.worker is not None:
            head = Cancel(job=call, cause=cause)
            self._state.turn.send(request.worker.link, head.encode(sid=request.number))
        else:
            error = ErrorInfo(
                type="JobCancelled", module="runpod_flash.errors", message=cause, kind=ErrorKind.CANCELLED
            )
            self.fail(request, error)
        return True

    def fail(self, request: Request, error: ErrorInfo) -> None:
        """Answers one that waits for a worker."""
        self._waiting.take(request)
        self._answer(request, error)

    def drop(self, link: Link) -> None:
        """A caller is gone: nobody can have what it asked for."""
        client = link.state
        for call in list(client.follows.values()) if isinstance(client, Client) else ():
            request = self._requests.get(call)
            if isinstance(request, ClientCall) and request.link is link:
                self.cancel(call, "its caller is gone")

    # ── answered ──────────────────────────────────────────────────────────────────────────────────

    def returned(self, worker: Worker, message: Frame, head: Returned) -> None:
        """A worker answers a call."""
        request = worker.requests.pop(message.sid, None)
        worker.last_done = self._now()
        if isinstance(request, ClientCall):
            data = frame.encode(kinds.RETURNED, message.head, message.parts, sid=request.sid, flags=kinds.END)
            self._finish(request, data, lines_follow=head.logs)
        self._go_on(worker, stuck=head.stuck)

    def end(self, exchange: Exchange, *, stuck: bool) -> None:
        """Its worker has answered a request that came over HTTP, to the end."""
        worker = exchange.worker
        assert worker is not None
        del worker.requests[exchange.number]
        self._forget(exchange.id)
        worker.last_done = self._now()
        self._go_on(worker, stuck=stuck)

    def _go_on(self, worker: Worker, *, stuck: bool) -> None:
        if stuck:
            self._replace(worker)
        if worker.state == "draining":
            self._dispatcher.stop_if_drained(worker)
        if worker.pool.requests:
            self._hand_out(worker.pool)
        if not worker.requests:
            self._dispatcher.rest(worker)

    def chunk(self, worker: Worker, message: Frame) -> None:
        """A worker sends what a call has yielded: it goes to the caller as it came."""
        request = worker.requests.get(message.sid)
        if isinstance(request, ClientCall):
            data = frame.encode(kinds.CHUNK, message.head, message.parts, sid=request.sid)
            self._state.turn.send(request.link, data)

    def taken(self, link: Link, sid: int, head: Taken) -> None:
        """A caller has used up what a call of its own has yielded."""
        call = link.state.follows.get(sid) if isinstance(link.state, Client) else None
        request = self._requests.get(call) if call is not None else None
        if request is not None and request.worker is not None:
            self._state.turn.send(request.worker.link, head.encode(sid=request.number))

    def serve(self, worker: Worker) -> None:
        """Gives a worker the calls that wait for one like it, as many as it has room for."""
        self._hand_out(worker.pool)
        self._dispatcher.rest(worker)

    def _hand_out(self, pool: Pool) -> None:
        while pool.requests and (free := self._choose(pool.requests[0])) is not None:
            self._send(free, self._waiting.take_next(pool), self._now())
        if pool.homes or (pool.requests and pool.requests[0].strict):
            self._pass_by(pool)
        if pool.requests:
            self._retire(pool.requests[0].fn)

    def _pass_by(self, pool: Pool) -> None:
        """Those at the head wait for a certain worker, say for that of their instance; others need not with them."""
        for request in list(pool.requests):
            if (free := self._choose(request)) is not None:
                self._waiting.take(request)
                self._send(free, request, self._now())
            elif request.instance not in pool.homes and not request.strict:
                return

    def lost(self, worker: Worker, why: ErrorInfo) -> None:
        """A worker is gone, or its stream: what it had may have run."""
        requests, worker.requests = worker.requests, {}
        for request in requests.values():
            if not self._repeat(request):
                self._answer(request, why)

    def _repeat(self, request: Request) -> bool:
        """Has another worker answer, if that can do no harm."""
        if not isinstance(request, Exchange) or request.answered or request.question.head.more or self._state.draining:
            return False
        self._state.lineage.abandon(request.id, CALLER_LOST)
        request.losses += 1
        if request.question.head.method not in REPEATABLE or request.losses >= MOST_LOSSES:
            return False
        pool, request.worker = request.fn.pool, None
        self._waiting.put_back(request)
        # Not now: whoever tells of the loss has yet to take the worker away.
        self._state.call_later(0, self._hand_out, pool)
        self._state.replan()
        return True

    def exited(self, worker: Worker, head: Exited) -> None:
        """The same, with the reason that its host gives."""
        if worker.requests:
            self.lost(worker, exit_error(head, worker.pool.spec.memory_mb))

    def fail_waiting(self, pool: Pool, error: ErrorInfo) -> None:
        """Nobody will serve the calls that wait at this pool."""
        while pool.requests:
            self._answer(self._waiting.take_next(pool), error)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def check_times(self, now: float) -> None:
        """Ends what its worker should have ended long ago: it does not even read."""
        for request in list(self._requests.values()):
            worker, limit = request.worker, request.timeout_ms / 1000
            if worker is None:
                if (why := affinity.too_long(request, now)) is not None:
                    self.fail(request, why)
                continue
            leaves = worker.state == "draining" or self.leaving or self._state.draining
            if leaves and isinstance(request, Exchange):
                request.retire()
                self._hurry(worker, now)
            if limit and now > request.sent_at + limit + _SLACK_S:
                del worker.requests[request.number]
                message = f"it took longer than its timeout of {limit:g} s, and its worker did not answer"
                self._answer(request, ErrorInfo(type="TimeoutError", message=message, kind=ErrorKind.TIMEOUT))
                self._replace(worker)

    def _hurry(self, worker: Worker, now: float) -> None:
        """An answer that never ends, a stream of events say, does not keep a worker of old code for ever."""
        worker.drains_since = worker.drains_since or now
        if worker.pool.serves and worker.state == "draining" and now > worker.drains_since + LONGEST_DRAIN_S:
            self._dispatcher.stop(worker, worker.stop_why, grace_ms=IDLE_GRACE_MS)

    def _replace(self, worker: Worker) -> None:
        """It takes nothing new; its other calls may finish within the grace."""
        self._state.call_later(NEIGHBOURS_S, self._end, worker)
        self._dispatcher.drain(worker, _STUCK)
        self._state.replan()

    def _end(self, worker: Worker) -> None:
        if self._state.workers.get(worker.id) is worker and worker.state == "draining":
            self._dispatcher.stop(worker, _STUCK)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, request: Request) -> None:
        self._waiting.add(request)
        self._retire(request.fn)
        self._state.replan()

    def _retire(self, fn: Function) -> None:
        """What runs finishes on the code that it was called with; for new code there are new workers."""
        outdated = [worker for worker in fn.pool.workers.values() if not self._dispatcher.suits(worker, fn)]
        if fn.pool.serves:  # an endpoint has one application or program, whose versions have pools of their own
            others = [pool for pool in fn.pool.endpoint.pools if pool is not fn.pool and pool.serves]
            outdated += [worker for pool in others for worker in pool.workers.values()]
        for worker in outdated:
            if worker.state in {"idle", "busy"}:
                self._dispatcher.drain(worker, "version")
                self._state.replan()

    def _choose(self, request: Request) -> Worker | None:
        """Of the workers with room the one with the fewest calls; of equals the one used last, so others can go.

        A call of an instance goes where that lives, or waits there.
        """
        fn, pool = request.fn, request.fn.pool
        if pool.idle and not (request.instance or request.wanted):
            newest = pool.idle[-1]  # so usual that the others are not looked at
            if newest.latest is fn.spec and newest.link is not None:
                return newest
        workers: Iterable[Worker] = pool.workers.values()
        if request.instance:
            home = pool.homes.get(request.instance)
            if home is None and not homes.may_settle(pool):
                return None
            workers = (home,) if home is not None else workers
        elif request.wanted:
            named = pool.workers.get(request.wanted)
            if named is not None and self._has_room(named, fn):
                return named
            if request.strict:
                return None
        best: Worker | None = None
        fewest, latest = pool.spec.concurrency, math.inf  # nobody with no room
        for worker in workers:
            has = len(worker.requests)
            if (
                (has < fewest or (has == fewest and worker.last_done > latest))
                and worker.link
                and worker.state in _SERVES
                and (worker.latest is fn.spec or self._dispatcher.suits(worker, fn))
            ):
                best, fewest, latest = worker, has, worker.last_done
        return best

    def _has_room(self, worker: Worker, fn: Function) -> bool:
        there = worker.link is not None and worker.state in {"idle", "busy"}
        return there and len(worker.requests) < fn.pool.spec.concurrency and self._dispatcher.suits(worker, fn)

    def _send(self, worker: Worker, request: Request, now: float) -> None:
        fn, requests, number = request.fn, worker.requests, next(self._numbers)
        request.worker, request.number, request.sent_at = worker, number, now
        if request.instance:
            request.drop = homes.settle(worker, request.instance)
        requests[number] = request
        self._dispatcher.engage(worker, fn, request.defs)
        if len(requests) == 1:
            self._state.turn.pass_on(worker.link, request.encode())
        else:
            self._state.turn.send(worker.link, request.encode())
            if len(requests) > fn.pool.endpoint.spec.scaler_value:
                self._state.replan()
        if isinstance(request, Exchange) and request.question.head.more:
            request.asker.allow(kinds.WINDOW - len(request.body))

    def _answer(self, request: Request, error: ErrorInfo) -> None:
        """The engine answers in the place of a worker."""
        if isinstance(request, Exchange):
            self._forget(request.id)
            request.asker.fail(error)
        elif isinstance(request, ClientCall):
            self._finish(request, Returned(ok=False, error=error).encode(sid=request.sid, flags=kinds.END))

    def _finish(self, request: ClientCall, data: bytes, *, lines_follow: bool = False) -> None:
        self._forget(request.id)
        after_lines = lines_follow and request.head.logs
        self._followers.answer(request.id, request.link, request.sid, data, after_lines=after_lines)

    def _forget(self, call: str) -> None:
        self._requests.pop(call, None)
        self._lineage.ended(call, CALLER_ENDED)
