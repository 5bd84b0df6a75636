"""One request, from its first header to the last byte of its answer."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from runpod_flash.engine import affinity
from runpod_flash.engine.affinity import WorkerGone
from runpod_flash.engine.programs import too_large
from runpod_flash.engine.question import Question
from runpod_flash.engine.records import Exchange
from runpod_flash.errors import EngineRefused, QueueFull
from runpod_flash.gateway import failures, fields, ports, reply, target
from runpod_flash.gateway.directory import Answerer
from runpod_flash.gateway.fields import RawHeaders
from runpod_flash.gateway.handshake import Asked, Upgrade
from runpod_flash.gateway.port_request import PortRequest
from runpod_flash.gateway.ports import Port
from runpod_flash.gateway.repeats import Known, KnownJob
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.gateway.runpod.request import Request, reworded
from runpod_flash.gateway.runpod.verbs import Operation
from runpod_flash.gateway.upload import HOLD_BACK, Upload
from runpod_flash.web import trust
from runpod_flash.wire import kinds
from runpod_flash.wire.messages import ErrorInfo, HttpRes

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection

logger = logging.getLogger(__name__)

P = ParamSpec("P")

_CREDIT_AT: Final = kinds.WINDOW // 4
_ASK_PERSON: Final = (
    "www-authenticate",
    'Basic realm="Flash: any name, and as the password what flash engine token prints"',
)
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_SEPARATELY: Final = 64 * 1024
_GONE: Final = "the one who asked over HTTP is gone"
_RUNPOD: Final = (b"/v2/", b"/graphql")
_LITTLE: Final = 64 * 1024


def _contained(method: Callable[Concatenate[Incoming, P], None]) -> Callable[Concatenate[Incoming, P], None]:
    """A mistake of ours costs one connection; in the engine it would cost a restart."""

    def run(self: Incoming, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.exception("an answer could not be written")
            self._break_off()

    return functools.update_wrapper(run, method)


class Incoming:
    """A request as it comes in, and its answer as it goes out. It is the engine's asker."""

    __slots__ = (
        "_answerer", "_asked", "_chunked", "_connection", "_exchange", "_fields", "_length", "_limit", "_operation",
        "_port", "_query", "_question", "_refused", "_unpaid", "_upload", "answered", "begun", "current", "done",
        "headed", "headers", "keep_alive", "method", "target",
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
        # Who answers.
        self.current = False  # the ones before it are answered
        self._answerer: Answerer | None = None
        self._operation: Operation | None = None  # instead: it is of Runpod's protocol
        self._refused: Reply | None = None
        self._question: Question | None = None
        self._exchange: Exchange | None = None
        self._asked: Request | PortRequest | None = None  # instead: it waits for its answer
        self._port: Port | None = None  # instead: it is for a port of a worker
        self.begun = False  # a worker has it, or it waits for one
        # What goes out.
        self.answered = False  # its answer has begun …
        self.done = False  # … and has ended
        self._chunked = False
        self._length = -1  # bytes of the answer that are yet to come, where it said how many
        self._unpaid = 0  # bytes of the answer that its worker has no credit for yet

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self._upload.complete

    @property
    def received(self) -> int:
        """Bytes of its body that have come."""
        return self._upload.received

    # ── in ────────────────────────────────────────────────────────────────────────────────────────

    def head_complete(self, method: str, *, minor: int, keep_alive: bool) -> None:
        """All headers are there: decides who answers."""
        self.headed, self.method, self.keep_alive = True, method, keep_alive
        if self._refused is None:
            found = self._judge(minor)
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
        if self._asked is not None:
            self._asked.vanish()
        if self._exchange is not None and not self.done:
            self._connection.exchanges.abandon(self._exchange, "its request was broken")
        if self.answered and not self.done:
            self._break_off()
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
        elif self._operation is not None and self.complete:
            self._ask(self._operation, self._upload.take(self.received))
        elif self._port is not None:
            self._go_to(self._port)
        elif self.begun:
            self._pass_on()
        elif self._answerer is not None and (self.complete or self._upload.waiting >= kinds.WINDOW):
            self._begin()
        elif self._fields is not None and self._fields.continues and not self.received:
            self._connection.write(reply.CONTINUE)

    def _reads_on(self) -> bool:
        """Whether the rest of a request that is refused is so little that its connection can be kept for the next."""
        known = self._fields
        if not self.keep_alive or self.complete or known is None or known.continues:
            return False
        return (self.received if known.length < 0 else known.length) <= _LITTLE

    # ── who answers ───────────────────────────────────────────────────────────────────────────────

    def _judge(self, minor: int) -> Answerer | Operation | Port | Reply:
        known = self._connection.fields_of(self.headers, minor)
        if isinstance(known, Reply):
            return known
        self._fields = known
        try:
            wanted = target.read(self.target)
        except target.BadTarget as error:
            return refusal(400, str(error))
        host = known.host
        if wanted.host is not None:
            if refused := fields.judge_host(wanted.host):
                return refused
            host = trust.host_name(wanted.host) or ""
        self._query = wanted.query
        found = self._connection.directory.find(self.method, host, wanted, known.authorization)
        if isinstance(found, Operation):
            self._limit = self._connection.limits.of(found.verb.limit)
        if known.length > self._limit.most:
            self._tell_too_large(found, known)
            return self._limit.refusal() if not isinstance(found, Reply) else found
        return found

    def _tell_too_large(self, found: Answerer | Operation | Port | Reply, known: fields.Fields) -> None:
        """A result that cannot be taken is the end of its job: its worker throws it away, and would be waited for."""
        if isinstance(found, Operation) and (tell := found.verb.too_large) is not None:
            jobs, why = self._connection.jobs, too_large(known.length, self._limit)
            jobs.guarded(lambda: tell(jobs, found.rest, known.authorization, why))

    def _ask(self, operation: Operation, body: bytes) -> None:
        """Has a request of Runpod's protocol answered, once all of it is there."""
        if self._asked is None:
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
        if isinstance(self._asked, PortRequest):
            self._asked.advance()
            return
        self.keep_alive = False
        chunked = any(name == b"transfer-encoding" for name, _value in self.headers)
        more = [(b"connection", b"close"), _CHUNKED] if chunked else [(b"connection", b"close")]
        head = self.head_for_port(port, more)
        self._asked = PortRequest(self, self._connection, port, self._upload, head)

    def pass_back(self, data: bytes) -> None:
        """Bytes of an answer that is written as it came."""
        self.answered = True
        self._connection.write(data)

    def passed_back(self) -> None:
        """That was all of such an answer."""
        if not self.done:
            self._finish(close=True)

    def not_passed_back(self, refused: Reply) -> None:
        """There is none, or no end to it."""
        if self.done:
            return
        if self.answered:
            self._break_off()
        else:
            self.write(refused)

    # ── to the engine ─────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        answerer, connection, known = self._answerer, self._connection, self._fields
        assert answerer is not None
        assert known is not None
        self.begun = True
        first = self._upload.take(kinds.WINDOW)
        prefix = (("x-forwarded-prefix", answerer.prefix),) if answerer.prefix else ()
        self._question = connection.exchanges.question(
            answerer.function,
            method=self.method,
            path=answerer.path,
            query=self._query,
            headers=[*known.passed_on, *prefix],
            params=answerer.params,
            more=not self.complete or self._upload.waiting > 0,
            target=self._below() if answerer.function.pool.serves else "",
        )
        self._put(self._question, first)

    def _put(self, question: Question, body: bytes) -> None:
        try:
            self._exchange = self._connection.exchanges.begin(question, self, body)
        except WorkerGone as error:
            self.write(failures.answer_to(affinity.gone(str(error)), ""))
        except (QueueFull, EngineRefused) as error:
            self.keep_alive = isinstance(error, QueueFull) and self.keep_alive
            self.write(failures.refusal_of(error))

    def known(self) -> Known | KnownJob | None:
        """What another request with the same head means; None where that has to be found out again."""
        answerer, question, said = self._answerer, self._question, self._fields
        if (operation := self._operation) is not None and said is not None:
            if operation.rest or said.continues or not self._asked or not self.keep_alive or not self._connection.minor:
                return None
            return KnownJob(self.method, operation, self._query, self.headers, self.received)
        if answerer is None or question is None or said is None:
            return None
        if question.head.more or said.continues or not self.keep_alive or not self._connection.minor:
            return None
        return Known(self.method, answerer, question, self.received)

    @_contained
    def repeat(self, known: Known | KnownJob, body: bytes) -> None:
        """All of it is there, and its head is known."""
        self.method, self.keep_alive = known.method, True
        self.headed = self.current = self._upload.complete = True
        if isinstance(known, KnownJob):
            self._query, self.headers = known.query, known.headers
            self._ask(known.operation, body)
        else:
            self.begun = True
            self._put(known.question, body)

    def _pass_on(self) -> None:
        """Sends what has come of the body as far as its worker has room, and has the client wait where it has not."""
        exchange = self._exchange
        if exchange is not None and exchange.question.head.more:
            send = self._connection.exchanges.send
            self._upload.pass_on(lambda piece, last: send(exchange, piece, last=last))
            self._connection.hold_back(self._upload.waiting > HOLD_BACK)

    def vanish(self) -> None:
        """The connection is gone."""
        if self._exchange is not None and not self.done:
            self.done = True
            self._connection.exchanges.abandon(self._exchange, _GONE)
        self.done = True
        if self._asked is not None:
            self._asked.vanish()

    def flushed(self) -> None:
        """What was written has gone out."""
        if isinstance(self._asked, PortRequest):
            self._asked.flushed()
        if self._unpaid and self._exchange is not None and not self.done:
            self._connection.exchanges.used(self._exchange, self._unpaid)
            self._unpaid = 0

    # ── what the engine says ──────────────────────────────────────────────────────────────────────

    @_contained
    def answer(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        """The worker answers."""
        if self.done or self.answered:
            return
        try:
            self._write_head(head, body, last=last)
        except reply.BadHeader as error:
            logger.warning("request %s: %s", self._id(), error)
            if not last:
                self._give_up()
            self.write(refusal(500, "Internal Server Error", id=self._id()))

    @_contained
    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The answer goes on."""
        if self.done:
            return
        if broken:
            self._break_off()
            return
        self._write_piece(body)
        if last and not self.done:
            self._finish_stream()

    @_contained
    def allow(self, size: int) -> None:
        """The worker has room for more of the body."""
        if not self.done:
            self._upload.allow(size)
            self._pass_on()

    @_contained
    def fail(self, error: ErrorInfo) -> None:
        """There is no worker, or none any more."""
        if self.done:
            return
        if self.answered:
            self._break_off()
            return
        self.write(failures.answer_to(error, self._id()))

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def write(self, answer: Reply) -> None:
        """The gateway's own answer."""
        if answer.status >= 400 and self.target.startswith(_RUNPOD):
            answer = reworded(answer)
        self.answered = True
        close = self._closes()
        length = len(answer.body) if reply.has_body(answer.status) else None
        head = reply.head_of(answer.status, answer.headers, length=length, close=close)
        body = answer.body if length and self.method != "HEAD" else b""
        self._connection.write(head + body)
        self._finish(close=close)

    def write_json(self, body: bytes, request: str) -> None:
        """Sends JSON, as the answer to a request of that id."""
        self.answered = True
        close = self._closes()
        head = reply.head_of_json(len(body), request, close=close)
        if len(body) < _SEPARATELY:
            self._connection.write(head + body)
        else:
            self._connection.write_all((head, body))
        self._finish(close=close)

    def _write_head(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        close = self._closes()
        carries = reply.has_body(head.status)
        if last:
            length = len(body) if carries else None
            lines = reply.head_of(head.status, head.headers, length=length, close=close)
            self.answered = True
            if self.method == "HEAD" or not carries or not body:
                self._connection.write(lines)
            elif len(body) < _SEPARATELY:
                self._connection.write(lines + body)
            else:
                self._connection.write_all((lines, body))
            self._finish(close=close)
            return
        length = _length_of(head) if carries else None
        self._chunked = carries and length is None and self._connection.minor > 0
        if carries and length is None and not self._chunked:
            close, self.keep_alive = True, False  # to an old client the end of the connection is the end of the body
        lines = reply.head_of(head.status, head.headers, length=length, chunked=self._chunked, close=close)
        self.answered = True
        self._length = -1 if length is None else length
        self._connection.write(lines)
        if self.method == "HEAD" or not carries:
            self._give_up()
            self._finish(close=close)
        else:
            self._write_piece(body)

    def _write_piece(self, body: bytes) -> None:
        if self._length >= 0:
            self._length -= len(body)
            if self._length < 0:
                logger.warning("request %s: its answer is longer than it said", self._id())
                self._length = 0
                self._break_off()
                return
        if body:
            pieces = (b"%x\r\n" % len(body), body, b"\r\n") if self._chunked else (body,)
            self._connection.write_all(pieces)
            self._unpaid += len(body)
            if self._unpaid >= _CREDIT_AT and not self._connection.full:
                self.flushed()

    def _finish_stream(self) -> None:
        if self._length > 0:
            logger.warning("request %s: its answer is shorter than it said", self._id())
            self._break_off()
            return
        if self._chunked:
            self._connection.write(reply.LAST_CHUNK)
        self._finish(close=self._closes())

    def _finish(self, *, close: bool) -> None:
        self.done = True
        self._upload.drop()
        self._connection.answered(self, close=close)

    def _break_off(self) -> None:
        """Cuts the connection: that is how a client sees that an answer is not whole."""
        self._give_up()
        self.done = True
        self._connection.cut_off()

    def _give_up(self) -> None:
        if self._exchange is not None:
            self._connection.exchanges.abandon(self._exchange, "its answer cannot be sent")

    def _closes(self) -> bool:
        return not (self.keep_alive and self.complete) or self._connection.leaving

    def _id(self) -> str:
        return self._exchange.id if self._exchange is not None else ""


def _length_of(head: HttpRes) -> int | None:
    """What a stream says of its length."""
    said = next((value for name, value in head.headers if name.lower() == "content-length"), "")
    return int(said) if said.isdigit() else None
