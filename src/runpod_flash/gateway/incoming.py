"""One request, from its first header to the last byte of its answer, and who of three kinds answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runpod_flash.engine.question import Question
from runpod_flash.gateway import fields, ports, reply, target
from runpod_flash.gateway.containment import contained
from runpod_flash.gateway.directory import Answerer
from runpod_flash.gateway.exchange_request import ExchangeRequest
from runpod_flash.gateway.fields import RawHeaders
from runpod_flash.gateway.handshake import Asked, Upgrade
from runpod_flash.gateway.port_request import PortRequest
from runpod_flash.gateway.ports import Port
from runpod_flash.gateway.repeats import Known, KnownJob
from runpod_flash.gateway.reply import Reply
from runpod_flash.gateway.runpod.request import Request, reworded
from runpod_flash.gateway.runpod.verbs import Operation
from runpod_flash.gateway.upload import Upload
from runpod_flash.gateway.verdict import verdict_on
from runpod_flash.wire import kinds

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection

_ASK_PERSON: Final = (
    "www-authenticate",
    'Basic realm="Flash: any name, and as the password what flash engine token prints"',
)
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_RUNPOD: Final = (b"/v2/", b"/graphql")
_LITTLE: Final = 64 * 1024
_SEPARATELY: Final = 64 * 1024


class Incoming:
    """A request as it comes in, and its answer as it goes out."""

    __slots__ = (
        "_answerer", "_asked", "_connection", "_fields", "_limit", "_operation", "_port", "_query", "_refused",
        "_upload", "answered", "current", "done", "headed", "headers", "keep_alive", "method", "target",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # What has come.
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.keep_alive = False
        self.headed = False  # its headers are complete
        self._fields: fields.Fields | None = None
        self._query = ""
        self._limit = connection.limits.any
        self._upload = Upload()
        # Who answers: a function, one of Runpod's protocol, or a port of a worker; or nobody, and why.
        self.current = False  # the ones before it are answered
        self._answerer: Answerer | None = None
        self._operation: Operation | None = None
        self._port: Port | None = None
        self._refused: Reply | None = None
        self._asked: ExchangeRequest | Request | PortRequest | None = None  # it waits for its answer
        # What goes out.
        self.answered = False  # its answer has begun …
        self.done = False  # … and has ended

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self._upload.complete

    @property
    def received(self) -> int:
        """Bytes of its body that have come."""
        return self._upload.received

    @property
    def begun(self) -> bool:
        """Whether a worker has it, or it waits for one."""
        return isinstance(self._asked, ExchangeRequest)

    # ── in ────────────────────────────────────────────────────────────────────────────────────────

    def head_complete(self, method: str, *, minor: int, keep_alive: bool) -> None:
        """All headers are there: decides who answers."""
        self.headed, self.method, self.keep_alive = True, method, keep_alive
        if self._refused is None:
            found, self._fields, self._query, self._limit = verdict_on(
                self._connection, method, self.target, self.headers, minor=minor
            )
            if isinstance(found, Answerer):
                self._answerer = found
            elif isinstance(found, Operation):
                self._operation = found
            elif isinstance(found, Port):
                self._port = found
            else:
                self._refused = self._with_prompt(found)

    def _with_prompt(self, refused: Reply) -> Reply:
        """Has a browser ask the person at it for the token, where that is what is missing."""
        if refused.status != 401 or self.method != "GET" or not fields.asks_for_a_page(self.headers):
            return refused
        return refused._replace(headers=(*refused.headers, _ASK_PERSON))

    def may_converse(self, upgrade: Upgrade) -> bool:
        """Whether whoever answers speaks other protocols than HTTP, and this one."""
        if upgrade.name == "h2c" or self.method != "GET":  # the next HTTP is offered, and this one does as well
            return False
        if self._port is not None:
            return True
        if self._answerer is None or not self._fields:
            return False
        pool = self._answerer.function.pool
        return pool.serves and (pool.spec.application is None or upgrade.name == "websocket")

    def asked(self, upgrade: Upgrade, early: bytes) -> Asked:
        """All of it, for whoever goes on in the other protocol."""
        assert self._answerer is not None
        assert self._fields is not None
        return Asked(
            self._answerer, upgrade, self.headers, [*self._fields.passed_on], self._query, self._below(), early
        )

    @property
    def port(self) -> Port | None:
        """The port that it is for."""
        return self._port

    def head_for_port(self, port: Port, more: RawHeaders) -> bytes:
        """Its head as the program behind a port gets it."""
        return ports.head_for(port, self.method, target.below(self.target, port.prefix), self.headers, more)

    def _below(self) -> str:
        """The target as it came, without what names the endpoint."""
        assert self._answerer is not None
        return target.below(self.target, self._answerer.prefix)

    def refuse(self, refused: Reply) -> None:
        """Whatever else it says, this is its answer, and the last one on its connection."""
        self._refused, self._answerer, self._operation, self.keep_alive = refused, None, None, False
        self._port = None
        if isinstance(self._asked, ExchangeRequest):
            self._asked.give_up("its request was broken")
        elif self._asked is not None:
            self._asked.vanish()
        if self.answered and not self.done:
            self.cut_off()
        elif self.current:
            self.advance()

    def body(self, piece: bytes) -> None:
        """More of its body."""
        self._upload.received += len(piece)
        if self._refused is not None or self.done:
            if self.current:
                self.advance()
            return
        if self.received > self._limit.most:
            self.refuse(self._limit.refusal())
            return
        self._upload.add(piece)
        if self.current:
            self.advance()

    def end(self) -> None:
        """That was all of it."""
        self._upload.complete = True
        if self.current and not self.done:
            self.advance()

    def advance(self) -> None:
        """Does what can be done by now; only called while it is the one to be answered."""
        if self.done or not self.headed:
            return
        if self._refused is not None:
            if not self.answered and not self._reads_on():
                self.write(self._refused)
        elif self._asked is not None:
            if not isinstance(self._asked, Request):
                self._asked.advance()
        elif self._operation is not None:
            if self.complete:
                self._ask(self._operation, self._upload.take(self.received))
        elif self._port is not None:
            self._go_to(self._port)
        elif self._answerer is not None and (self.complete or self._upload.waiting >= kinds.WINDOW):
            self._begin(self._answerer)
        elif self._fields is not None and self._fields.continues and not self.received:
            self._connection.write(reply.CONTINUE)

    def _reads_on(self) -> bool:
        """Whether the rest of a request that is refused is so little that its connection can be kept for the next."""
        known = self._fields
        if not self.keep_alive or self.complete or known is None or known.continues:
            return False
        return (self.received if known.length < 0 else known.length) <= _LITTLE

    # ── who answers ───────────────────────────────────────────────────────────────────────────────

    def _begin(self, answerer: Answerer) -> None:
        """Has it answered by a function."""
        known = self._fields
        assert known is not None
        first = self._upload.take(kinds.WINDOW)
        prefix = (("x-forwarded-prefix", answerer.prefix),) if answerer.prefix else ()
        question = self._connection.exchanges.question(
            answerer.function,
            method=self.method,
            path=answerer.path,
            query=self._query,
            headers=[*known.passed_on, *prefix],
            params=answerer.params,
            more=not self.complete or self._upload.waiting > 0,
            target=self._below() if answerer.function.pool.serves else "",
        )
        self._put(question, first)

    def _put(self, question: Question, body: bytes) -> None:
        self._asked = asked = ExchangeRequest(self, self._connection, self._upload, question)
        asked.begin(body)

    def _ask(self, operation: Operation, body: bytes) -> None:
        """Has a request of Runpod's protocol answered, once all of it is there."""
        if operation.verb.closes:
            self.keep_alive = False
        jobs = self._connection.jobs
        self._asked = Request(
            self,
            jobs,
            operation,
            method=self.method,
            query=self._query,
            headers=self.headers,
            body=body,
        )
        jobs.guarded(self._asked.run)

    def _go_to(self, port: Port) -> None:
        """Has it answered by what listens at a port."""
        self.keep_alive = False
        chunked = any(name == b"transfer-encoding" for name, _value in self.headers)
        more = [(b"connection", b"close"), _CHUNKED] if chunked else [(b"connection", b"close")]
        head = self.head_for_port(port, more)
        self._asked = PortRequest(self, self._connection, port, self._upload, head)

    def known(self) -> Known | KnownJob | None:
        """What another request with the same head means; None where that has to be found out again."""
        said, asked = self._fields, self._asked
        if said is None or said.continues or not self.keep_alive or not self._connection.minor:
            return None
        if self._operation is not None and asked is not None and not self._operation.rest:
            return KnownJob(self.method, self._operation, self._query, self.headers, self.received)
        if self._answerer is not None and isinstance(asked, ExchangeRequest) and not asked.question.head.more:
            return Known(self.method, self._answerer, asked.question, self.received)
        return None

    @contained
    def repeat(self, known: Known | KnownJob, body: bytes) -> None:
        """All of it is there, and its head is known."""
        self.method, self.keep_alive = known.method, True
        self.headed = self.current = self._upload.complete = True
        if isinstance(known, KnownJob):
            self._query, self.headers = known.query, known.headers
            self._ask(known.operation, body)
        else:
            self._put(known.question, body)

    def vanish(self) -> None:
        """The connection is gone."""
        if self._asked is not None:
            self._asked.vanish()
            self._asked = None
        self.done = True

    def flushed(self) -> None:
        """What was written has gone out."""
        if isinstance(self._asked, ExchangeRequest | PortRequest):
            self._asked.flushed()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def pass_back(self, data: bytes) -> None:
        """Bytes of an answer that is written as it came."""
        self.answered = True
        self._connection.write(data)

    def passed_back(self) -> None:
        """That was all of such an answer."""
        if not self.done:
            self.finish(close=True)

    def not_passed_back(self, refused: Reply) -> None:
        """There is none, or no end to it."""
        if self.done:
            return
        if self.answered:
            self.cut_off()
        else:
            self.write(refused)

    def write(self, answer: Reply) -> None:
        """The gateway's own answer."""
        if answer.status >= 400 and self.target.startswith(_RUNPOD):
            answer = reworded(answer)
        close = self.closes()
        length = len(answer.body) if reply.has_body(answer.status) else None
        head = reply.head_of(answer.status, answer.headers, length=length, close=close)
        self.send(head, answer.body if length and self.method != "HEAD" else b"", close=close)

    def write_json(self, body: bytes, request: str) -> None:
        """Sends JSON, as the answer to a request of that id."""
        close = self.closes()
        self.send(reply.head_of_json(len(body), request, close=close), body, close=close)

    def send(self, head: bytes, body: bytes, *, close: bool) -> None:
        """Sends an answer as a whole. A large body is not copied behind its head."""
        self.answered = True
        if len(body) < _SEPARATELY:
            self._connection.write(head + body)
        else:
            self._connection.write_all((head, body))
        self.finish(close=close)

    def finish(self, *, close: bool) -> None:
        """All of the answer is written."""
        self.done = True
        self._asked = None  # they hold each other, and would wait for the collector
        self._upload.drop()
        self._connection.answered(self, close=close)

    def cut_off(self) -> None:
        """Cuts the connection: that is how a client sees that an answer is not whole."""
        self.done = True
        self._asked = None
        self._connection.cut_off()

    def closes(self) -> bool:
        """Whether its connection ends with it."""
        return not (self.keep_alive and self.complete) or self._connection.leaving
