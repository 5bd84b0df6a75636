"""A request over HTTP for a load-balanced function: to a worker, and its answer back, whole or piece by piece."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from runpod_flash.engine import affinity
from runpod_flash.engine.affinity import WorkerGone
from runpod_flash.engine.exchanges import ASKER_GONE, CREDIT_AT
from runpod_flash.engine.question import Question
from runpod_flash.engine.records import Exchange
from runpod_flash.errors import EngineRefused, QueueFull
from runpod_flash.gateway import failures, reply
from runpod_flash.gateway.containment import contained
from runpod_flash.gateway.reply import refusal
from runpod_flash.gateway.upload import HOLD_BACK, Upload
from runpod_flash.wire.messages import ErrorInfo, HttpRes

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection
    from runpod_flash.gateway.incoming import Incoming

logger = logging.getLogger(__name__)

_UNSENDABLE: Final = "its answer cannot be sent"


class ExchangeRequest:
    """One request. It is the engine's asker."""

    __slots__ = ("_chunked", "_connection", "_exchange", "_incoming", "_length", "_unpaid", "_upload", "question")

    def __init__(self, incoming: Incoming, connection: Connection, upload: Upload, question: Question) -> None:
        self.question = question
        self._incoming = incoming
        self._connection = connection
        self._upload = upload
        self._exchange: Exchange | None = None
        # Of an answer that comes in pieces.
        self._chunked = False
        self._length = -1  # bytes that are yet to come, where it said how many
        self._unpaid = 0  # bytes that its worker has no credit for yet

    @property
    def id(self) -> str:
        """As the engine knows it; "" before it has taken it."""
        return self._exchange.id if self._exchange is not None else ""

    # ── to the engine ─────────────────────────────────────────────────────────────────────────────

    def begin(self, body: bytes) -> None:
        """Asks, with as much of the body as there is."""
        try:
            self._exchange = self._connection.exchanges.begin(self.question, self, body)
        except WorkerGone as error:
            self._incoming.write(failures.answer_to(affinity.gone(str(error)), ""))
        except (QueueFull, EngineRefused) as error:
            if not isinstance(error, QueueFull):
                self._incoming.keep_alive = False
            self._incoming.write(failures.refusal_of(error))

    def advance(self) -> None:
        """Sends what has come of the body as far as its worker has room, and has the client wait where it has not."""
        exchange = self._exchange
        if exchange is not None and exchange.question.head.more:
            send = self._connection.exchanges.send
            self._upload.pass_on(lambda piece, last: send(exchange, piece, last=last))
            self._connection.hold_back(self._upload.waiting > HOLD_BACK)

    def flushed(self) -> None:
        """The client has read what was written, and the worker may send as much again."""
        if self._unpaid and self._exchange is not None and not self._incoming.done:
            self._connection.exchanges.used(self._exchange, self._unpaid)
            self._unpaid = 0

    def vanish(self) -> None:
        """The client is gone."""
        self.give_up(ASKER_GONE)

    def give_up(self, why: str) -> None:
        """Nobody waits for the rest of the answer."""
        if self._exchange is not None and not self._incoming.done:
            self._connection.exchanges.abandon(self._exchange, why)

    # ── what the engine says ──────────────────────────────────────────────────────────────────────

    @contained
    def answer(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        """The worker answers."""
        if self._incoming.done or self._incoming.answered:
            return
        try:
            if last:
                self._write_whole(head, body)
            else:
                self._write_head(head, body)
        except reply.BadHeader as error:
            logger.warning("request %s: %s", self.id, error)
            if not last:
                self.give_up(_UNSENDABLE)
            self._incoming.write(refusal(500, "Internal Server Error", id=self.id))

    @contained
    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The answer goes on."""
        if self._incoming.done:
            return
        if broken:
            self.cut_off()
            return
        self._write_piece(body)
        if last and not self._incoming.done:
            self._finish_stream()

    @contained
    def allow(self, size: int) -> None:
        """The worker has room for more of the body."""
        if not self._incoming.done:
            self._upload.allow(size)
            self.advance()

    @contained
    def fail(self, error: ErrorInfo) -> None:
        """There is no worker, or none any more."""
        if self._incoming.done:
            return
        if self._incoming.answered:
            self.cut_off()
            return
        self._incoming.write(failures.answer_to(error, self.id))

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def _write_whole(self, head: HttpRes, body: bytes) -> None:
        incoming = self._incoming
        close, carries = incoming.closes(), reply.has_body(head.status)
        lines = reply.head_of(head.status, head.headers, length=len(body) if carries else None, close=close)
        incoming.send(lines, body if carries and incoming.method != "HEAD" else b"", close=close)

    def _write_head(self, head: HttpRes, body: bytes) -> None:
        """The head of an answer, and its first piece; the others follow."""
        incoming, carries = self._incoming, reply.has_body(head.status)
        length = _length_of(head) if carries else None
        self._chunked = carries and length is None and self._connection.minor > 0
        if carries and length is None and not self._chunked:
            incoming.keep_alive = False  # to an old client the end of the connection is the end of the body
        close = incoming.closes()
        lines = reply.head_of(head.status, head.headers, length=length, chunked=self._chunked, close=close)
        incoming.answered = True
        self._length = -1 if length is None else length
        self._connection.write(lines)
        if incoming.method == "HEAD" or not carries:
            self.give_up(_UNSENDABLE)
            incoming.finish(close=close)
        else:
            self._write_piece(body)

    def _write_piece(self, body: bytes) -> None:
        if self._length >= 0:
            self._length -= len(body)
            if self._length < 0:
                logger.warning("request %s: its answer is longer than it said", self.id)
                self._length = 0
                self.cut_off()
                return
        if body:
            pieces = (b"%x\r\n" % len(body), body, b"\r\n") if self._chunked else (body,)
            self._connection.write_all(pieces)
            self._unpaid += len(body)
            if self._unpaid >= CREDIT_AT and not self._connection.full:
                self.flushed()

    def _finish_stream(self) -> None:
        if self._length > 0:
            logger.warning("request %s: its answer is shorter than it said", self.id)
            self.cut_off()
            return
        if self._chunked:
            self._connection.write(reply.LAST_CHUNK)
        self._incoming.finish(close=self._incoming.closes())

    def cut_off(self) -> None:
        """The answer will not be whole, which a client sees by a connection that is cut."""
        self.give_up(_UNSENDABLE)
        self._incoming.cut_off()


def _length_of(head: HttpRes) -> int | None:
    """What a stream says of its length."""
    said = next((value for name, value in head.headers if name.lower() == "content-length"), "")
    return int(said) if said.isdigit() else None
