"""HTTP requests for load-balanced functions: what the gateway asks of the engine, and what workers answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runpod_flash.engine.affinity import NOBODY_WANTED, wanted_by
from runpod_flash.engine.question import Question
from runpod_flash.engine.records import Asker, Converser, Endpoint, Exchange, Function, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.routes import Routes
from runpod_flash.engine.state import State
from runpod_flash.model.job import new_job_id
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import Credit, Data, ErrorInfo, HttpReq, HttpRes

CREDIT_AT: Final = kinds.WINDOW // 4
"""Bytes of an answer that have gone on, after which its worker is told that it may send as many more."""
ASKER_GONE: Final = "the one who asked over HTTP is gone"


class Exchanges:
    """The engine's face towards the gateway."""

    def __init__(self, state: State, registry: Registry, relay: Relay) -> None:
        self._state = state
        self._registry = registry
        self._relay = relay
        self.last_at = 0.0  # monotonic: when the last one began or ended

    # ── who answers ───────────────────────────────────────────────────────────────────────────────

    @property
    def draining(self) -> bool:
        """The engine is about to leave, and takes nothing new."""
        return self._state.draining or self._relay.leaving

    def endpoints(self) -> list[Endpoint]:
        """The load-balanced endpoints there are."""
        return [one for one in self._state.endpoints.values() if one.spec.kind == "lb"]

    def named(self, name: str) -> Sequence[Endpoint]:
        """Those of this id, or of this name: more than one where several apps or environments have it."""
        found = self._registry.named(name)
        if len(found) == 1 and found[0].spec.kind == "lb":
            return found
        return [one for one in found if one.spec.kind == "lb"]

    def workers(self, name: str) -> Sequence[Worker] | None:
        """The worker of that id, or those of the endpoint of that id or name that run, the oldest first.

        None: there is nothing of that name, or more than one endpoint.
        """
        one = self._state.workers.get(name)
        if one is not None:
            return (one,)
        endpoints = self._registry.named(name)
        if len(endpoints) != 1:
            return None
        found = [worker for pool in endpoints[0].pools for worker in pool.workers.values()]
        return sorted((one for one in found if one.state in {"idle", "busy"}), key=lambda one: one.launched_ms)

    def routes(self, endpoint: Endpoint) -> Routes[Function]:
        """Who answers what there."""
        if endpoint.routes is None:
            endpoint.routes = Routes(
                (route.method, route.path, function)
                for function in endpoint.served.values()
                for route in function.spec.routes
            )
        return endpoint.routes

    def is_ready(self, endpoint: Endpoint) -> bool:
        """Whether a worker is there that would answer at once."""
        workers = (worker for pool in endpoint.pools for worker in pool.workers.values())
        return any(worker.link and worker.state in {"idle", "busy"} for worker in workers)

    # ── asked ─────────────────────────────────────────────────────────────────────────────────────

    def question(
        self,
        fn: Function,
        *,
        method: str,
        path: str,
        query: str,
        headers: list[tuple[str, str]],
        params: Mapping[str, str] | None = None,
        more: bool = False,
        upgrade: str = "",
        target: str = "",
    ) -> Question:
        """What is asked of a function. With `more` its body goes on, as far as the asker is allowed."""
        spec, wanted = fn.spec, wanted_by(headers) if fn.pool.serves else NOBODY_WANTED
        head = HttpReq(
            call="",
            name=spec.name,
            digest=spec.digest,
            method=method,
            path=path,
            query=query,
            headers=headers,
            params=dict(params or {}),
            timeout_ms=spec.timeout_ms,
            more=more,
            upgrade=upgrade,
            target=target,
        )
        return Question(fn, head, wanted)

    def begin(self, question: Question, asker: Asker, body: bytes, converser: Converser | None = None) -> Exchange:
        """Takes a request; `converser` is the asker, where it asks for another protocol.

        EngineRefused, QueueFull; WorkerGone where it insists on a worker that is not there.
        """
        fn = question.fn
        self.last_at = now = self._state.clock.monotonic()
        exchange = Exchange(
            id=new_job_id(),
            fn=fn,
            timeout_ms=fn.spec.timeout_ms,
            asked_at=now,
            wanted=question.wanted.worker,
            strict=question.wanted.strict,
            asker=asker,
            question=question,
            body=body,
            converser=converser,
        )
        self._relay.take(exchange)
        return exchange

    def say(self, exchange: Exchange, head: Data, body: bytes = b"", *, last: bool = False) -> None:
        """A piece of a websocket's message, or its close, for the worker."""
        if exchange.worker is not None and exchange.number in exchange.worker.requests:
            parts = (body,) if body else ()
            self._to_worker(exchange, head.encode(parts, sid=exchange.number, flags=kinds.END if last else 0))

    def send(self, exchange: Exchange, body: bytes, *, last: bool) -> None:
        """More of the body."""
        if exchange.worker is not None and exchange.number in exchange.worker.requests:
            # The function's time runs from where it has all: how long a client takes to send it is the gateway's.
            exchange.sent_at = self._state.clock.monotonic()
            self._to_worker(exchange, Data().encode((body,), sid=exchange.number, flags=kinds.END if last else 0))

    def used(self, exchange: Exchange, size: int) -> None:
        """So much of the answer has gone out to whoever asked."""
        self._to_worker(exchange, Credit(bytes=size).encode(sid=exchange.number))

    def abandon(self, exchange: Exchange, cause: str) -> None:
        """Nobody waits for the answer any more; nothing is said to the asker from here on."""
        exchange.asker, exchange.converser = NOBODY, None
        exchange.answered = True  # what nobody waits for is not repeated
        self._relay.cancel(exchange.id, cause)

    def _to_worker(self, exchange: Exchange, data: bytes) -> None:
        if exchange.worker is not None:
            self._state.turn.send(exchange.worker.link, data)

    # ── answered ──────────────────────────────────────────────────────────────────────────────────

    def answer(self, worker: Worker, message: Frame, head: HttpRes) -> None:
        """A worker answers, or begins to."""
        exchange = worker.requests.get(message.sid)
        if not isinstance(exchange, Exchange) or exchange.worker is not worker:
            return
        exchange.answered, exchange.body = True, b""
        last = bool(message.flags & kinds.END)
        exchange.asker.answer(head, _body(message), last=last)
        if last:
            self._end(exchange, stuck=head.stuck)
        elif exchange.fn.pool.serves:
            exchange.timeout_ms = 0  # what has begun, a stream of events say, may go on for as long as it likes

    def data(self, worker: Worker, message: Frame, head: Data) -> None:
        """More of an answer."""
        exchange = worker.requests.get(message.sid)
        if not isinstance(exchange, Exchange):
            return
        last = bool(message.flags & kinds.END)
        if head.op:
            if exchange.converser is not None:
                exchange.converser.message(head, _body(message))
            return
        exchange.asker.data(_body(message), last=last, broken=bool(message.flags & kinds.FAILED))
        if last:
            self._end(exchange, stuck=head.stuck)

    def credit(self, worker: Worker, message: Frame, head: Credit) -> None:
        """A worker has read so much of a request's body."""
        exchange = worker.requests.get(message.sid)
        if isinstance(exchange, Exchange):
            exchange.asker.allow(head.bytes)

    def _end(self, exchange: Exchange, *, stuck: bool) -> None:
        self.last_at = self._state.clock.monotonic()
        # It and its asker hold each other, and would wait for the collector.
        exchange.asker, exchange.converser = NOBODY, None
        self._relay.end(exchange, stuck=stuck)


class _Nobody:
    """Stands for an asker that is gone."""

    def answer(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        pass

    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        pass

    def allow(self, size: int) -> None:
        pass

    def fail(self, error: ErrorInfo) -> None:
        pass


NOBODY: Final = _Nobody()


def _body(message: Frame) -> Any:
    return message.parts[0] if message.parts else b""
