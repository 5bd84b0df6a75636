"""One HTTP request for a function: bound, run as any call of the worker, and answered, at once or bit by bit."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable
from types import AsyncGeneratorType, CodeType, GeneratorType
from typing import Any, Final

from runpod_flash.payload import failures, parameters
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker.call import Call, Facts, Finish, Runner, stepped
from runpod_flash.worker.http import answers, asgi, events
from runpod_flash.worker.http.answers import Answer
from runpod_flash.worker.http.binding import Bound, Plan
from runpod_flash.worker.http.body import Body, Outflow, Send
from runpod_flash.worker.http.heads import Head, Heads
from runpod_flash.worker.http.request import Request
from runpod_flash.worker.link import decode_head
from runpod_flash.worker.results import Ending

_LAST: Final = object()
_PLANS_KEPT: Final = 256


class Exchanges:
    """The requests of a worker, by their streams, and how their functions take them."""

    def __init__(self, runner: Runner, send: Send) -> None:
        self.open: dict[int, Exchange] = {}
        self.heads = Heads()
        self.plans: dict[tuple[Any, ...], Plan] = {}
        self.runner = runner
        self.send = send

    def begin(self, message: Frame) -> Exchange:
        """A request has come."""
        exchange = Exchange(*self.heads.read(message.head), message, self)
        self.open[message.sid] = exchange
        return exchange

    def plan(self, function: Callable[..., Any], digest: str, request: Request) -> Plan:
        """How such requests become arguments."""
        key = (digest, request.method, *request.params)
        found = self.plans.get(key)
        if found is None:
            if len(self.plans) >= _PLANS_KEPT:
                del self.plans[next(iter(self.plans))]
            found = self.plans[key] = Plan(parameters.read(function, request.method, tuple(request.params)))
        return found

    def on_data(self, message: Frame) -> None:
        """More of a body; of one that nobody reads any more, too."""
        exchange = self.open.get(message.sid)
        if exchange is not None:
            body = message.parts[0] if message.parts else b""
            last, broken = bool(message.flags & kinds.END), bool(message.flags & kinds.FAILED)
            exchange.request.body.feed(body, last=last, broken=broken)

    def on_credit(self, message: Frame) -> None:
        """More of an answer may be sent."""
        exchange = self.open.get(message.sid)
        if exchange is not None:
            exchange.outflow.allow(decode_head(message.head)["bytes"])

    def stream_ended(self) -> None:
        """Nothing more is heard of these requests, nor to be said."""
        for exchange in self.open.values():
            exchange.request.body.feed(b"", last=True, broken=True)
            exchange.outflow.close()
        self.open.clear()


class Exchange(Call):
    """A request and its answer."""

    def __init__(self, call: str, head: Head, message: Frame, exchanges: Exchanges) -> None:
        super().__init__(call, head.said, message.sid)
        first = message.parts[0] if message.parts else b""
        body = Body(first, more=head.more, sid=self.sid, send=exchanges.send)
        self.request = Request(head, body)
        self._head = head
        self.outflow = Outflow(self.sid, exchanges.send)
        self._exchanges = exchanges
        self._bound: Bound | None = None
        self._is_events = False

    async def arguments(self, function: Callable[..., Any]) -> tuple[Any, Any]:
        plan = self._head.plan
        if plan is None:
            plan = self._head.plan = self._exchanges.plan(function, self.digest, self.request)
        self._bound = bound = await plan.bind(self.request)
        return bound.args, bound.kwargs

    # ── answers ───────────────────────────────────────────────────────────────────────────────────

    async def complete(self, value: Any) -> Finish:
        if isinstance(value, GeneratorType):
            return await self._stream(stepped(self, self._exchanges.runner, value))
        if isinstance(value, AsyncGeneratorType):
            return await self._stream(value)
        if not asgi.is_response(value):
            return await self._whole(self._changed(answers.of_value(value, self.name)))
        if (answer := asgi.as_whole(value)) is not None:
            return await self._whole(answer)
        await value(asgi.scope_of(self.request), asgi.receiver(self.request), self._responder())
        return self._last()

    async def _whole(self, answer: Answer) -> Finish:
        finish = self._at_once(answer)
        if len(answer.body) > kinds.WINDOW:
            finish = await self._in_pieces(answer)
        if self._bound is not None and self._bound.background is not None:
            self._exchanges.runner.answer(self, finish)  # what is left to do keeps nobody waiting
            await self._bound.background()
        return finish

    def _changed(self, answer: Answer) -> Answer:
        """With what the function said about its answer in a parameter of class Response."""
        said = self._bound.response if self._bound is not None else None
        if said is None:
            return answer
        own = {"content-length", "content-type"}
        headers = [one for one in asgi.headers_of(said.raw_headers) if one[0] not in own]
        return Answer(int(said.status_code or answer.status), [*answer.headers, *headers], answer.body)

    async def _in_pieces(self, answer: Answer) -> Finish:
        length = ("content-length", str(len(answer.body)))
        self.outflow.begin(answer.status, [*answer.headers, length], answer.body[: kinds.WINDOW])
        await self.outflow.write(answer.body[kinds.WINDOW :])
        return self._last()

    def _responder(self) -> asgi.Send:
        """Takes what a response that runs by itself sends."""
        start: asgi.Message = {}

        async def send(message: asgi.Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                headers = asgi.headers_of(start.get("headers", ()))
                await self._take(
                    int(start["status"]), headers, message.get("body", b""), message.get("more_body", False)
                )

        return send

    async def _take(self, status: int, headers: answers.Headers, body: bytes, more: bool) -> None:
        if not self.outflow.begun and not more and len(body) <= kinds.WINDOW:
            self._exchanges.runner.answer(self, self._at_once(Answer(status, headers, body)))
            return
        if not self.outflow.begun:
            self.outflow.begin(status, headers)
        await self.outflow.write(body)
        if not more:
            self._exchanges.runner.answer(self, self._last())

    # ── generators ────────────────────────────────────────────────────────────────────────────────

    async def _stream(self, items: AsyncIterator[Any]) -> Finish:
        try:
            first = await anext(items, _LAST)
            # An error before the first item still has a status of its own.
            self._is_events = events.headers_for(first) is events.EVENTS
            start = b"" if first is _LAST else events.piece_of(first, self.name)
            self.outflow.begin(200, events.headers_for(first))
            await self.outflow.write(start)
            async for item in items:
                await self.outflow.write(events.piece_of(item, self.name))
        finally:
            await items.aclose()  # type: ignore[attr-defined]
        return self._last()

    # ── the last frame ────────────────────────────────────────────────────────────────────────────

    def failed(self, error: BaseException, step: str, caller: CodeType) -> Finish:
        answer = answers.of_error(error, step, self.call, self.ending)
        info = _info(error, step, self.ending) if answer.status >= 499 else None
        if info is not None and self.ending is None:
            answers.tell(info["traceback"] or f"{info['type']}: {info['message']}")
        if self.outflow.begun:
            return self._last(info, events.broken(self.call) if self._is_events else b"", failed=True)
        return self._at_once(answer, info)

    def _at_once(self, answer: Answer, error: dict[str, str] | None = None) -> Finish:
        def finish(facts: Facts) -> bytes:
            self._exchanges.open.pop(self.sid, None)
            head = b'{"status":%d,"headers":%b,"load_us":%d,%b}' % (
                answer.status,
                _as_json(tuple(answer.headers)),
                facts.load_us,
                _said(facts, error),
            )
            return frame.encode(kinds.HTTP_RES, head, (answer.body,), sid=self.sid, flags=kinds.END)

        return finish

    def _last(self, error: dict[str, str] | None = None, body: bytes = b"", *, failed: bool = False) -> Finish:
        def finish(facts: Facts) -> bytes:
            self._exchanges.open.pop(self.sid, None)
            flags = kinds.END | kinds.FAILED if failed else kinds.END
            return frame.encode(kinds.DATA, b"{%b}" % _said(facts, error), (body,), sid=self.sid, flags=flags)

        return finish


@functools.lru_cache(maxsize=256)  # the same few, over and over
def _as_json(headers: tuple[tuple[str, str], ...]) -> bytes:
    return json.dumps(headers).encode()


def _said(facts: Facts, error: dict[str, str] | None) -> bytes:
    """Fields of a head: what is known of the call now that it is over."""
    said = b'"run_us":%d' % facts.run_us
    if facts.logs or facts.stuck or error is not None:
        more = {"logs": facts.logs, "stuck": facts.stuck, "error": error}
        said += b"," + json.dumps(more).encode()[1:-1]
    return said


def _info(error: BaseException, step: str, ending: Ending | None) -> dict[str, str]:
    info = failures.record(error, step).error
    if ending is not None:
        info.update(type=ending.type, message=ending.message, kind=ending.kind, module=ending.module)
    return info
