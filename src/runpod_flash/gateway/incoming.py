"""One request, from its first header to the last byte of its answer."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec

from runpod_flash.engine.records import Exchange
from runpod_flash.errors import EngineRefused, FlashError, QueueFull
from runpod_flash.gateway import reply, target, trust
from runpod_flash.gateway.directory import Answerer
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire import kinds
from runpod_flash.wire.messages import ErrorInfo, HttpRes

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection

logger = logging.getLogger(__name__)

P = ParamSpec("P")

_CREDIT_AT: Final = kinds.WINDOW // 4
_SEPARATELY: Final = 64 * 1024
_GONE: Final = "the one who asked over HTTP is gone"
_READ: Final = frozenset({b"host", b"origin", b"authorization", b"expect", b"content-length"})
_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_CODES: Final[dict[str, int]] = {ErrorKind.TIMEOUT: 504, ErrorKind.ENV: 503, ErrorKind.LOST: 502}
_SHORT: Final = 2000
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
        "_answerer", "_chunked", "_chunks", "_connection", "_exchange", "_length", "_pending", "_query",
        "_refused", "_said_length", "_unpaid", "_window", "answered", "begun", "complete", "continues", "current",
        "done", "headed", "headers", "keep_alive", "method", "received", "target",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # What has come.
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.method = ""
        self.keep_alive = False
        self.headed = False  # its headers are complete …
        self.complete = False  # … and its body
        self.continues = False  # somebody waits for 100 Continue
        self.received = 0  # bytes of the body
        self._chunks: deque[bytes] = deque()  # of those, what has not been passed on
        self._pending = 0  # bytes of these
        self._query = ""
        self._said_length = -1  # what Content-Length says
        self._window = 0  # bytes that may be passed on
        # Who answers.
        self.current = False  # the ones before it are answered
        self._answerer: Answerer | None = None
        self._refused: Reply | None = None
        self._exchange: Exchange | None = None
        self.begun = False  # a worker has it, or it waits for one
        # What goes out.
        self.answered = False  # its answer has begun …
        self.done = False  # … and has ended
        self._chunked = False
        self._length = -1  # bytes of the answer that are yet to come, where it said how many
        self._unpaid = 0  # bytes of the answer that its worker has no credit for yet

    # ── in ────────────────────────────────────────────────────────────────────────────────────────

    def head_complete(self, method: str, *, minor: int, keep_alive: bool) -> None:
        """All headers are there: decides who answers."""
        self.headed, self.method, self.keep_alive = True, method, keep_alive
        if self._refused is None:
            found = self._judge(minor)
            if isinstance(found, Answerer):
                self._answerer = found
            else:
                self._refused = found

    def refuse(self, refused: Reply) -> None:
        """Whatever else it says, this is its answer, and the last one on its connection."""
        self._refused, self._answerer, self.keep_alive = refused, None, False
        if self._exchange is not None and not self.done:
            self._connection.exchanges.abandon(self._exchange, "its request was broken")
        if self.answered and not self.done:
            self._break_off()
        elif self.current:
            self.advance()

    def body(self, piece: bytes) -> None:
        """More of its body."""
        self.received += len(piece)
        if self._refused is not None or self.done:
            if self.current:
                self.advance()
            return
        if self.received > self._connection.most_body:
            self.refuse(_too_large(self._connection.most_body))
            return
        self._chunks.append(piece)
        self._pending += len(piece)
        if self.current:
            self.advance()

    def end(self) -> None:
        """That was all of it."""
        self.complete = True
        if self.current and not self.done:
            self.advance()

    def advance(self) -> None:
        """Does what can be done by now; only called while it is the one to be answered."""
        if self.done or not self.headed:
            return
        if self._refused is not None:
            if not self.answered and not self._reads_on():
                self.write(self._refused)
        elif self.begun:
            self._pass_on()
        elif self.complete or self._pending >= kinds.WINDOW:
            self._begin()
        elif self.continues:
            self.continues = False
            self._connection.write(reply.CONTINUE)

    def _reads_on(self) -> bool:
        """Whether the rest of a request that is refused is so little that its connection can be kept for the next."""
        rest = self.received if self._said_length < 0 else self._said_length
        return self.keep_alive and not self.complete and not self.continues and rest <= _LITTLE

    # ── who answers ───────────────────────────────────────────────────────────────────────────────

    def _judge(self, minor: int) -> Answerer | Reply:
        said = self._said()
        if isinstance(said, Reply):
            return said
        try:
            wanted = target.read(self.target)
        except target.BadTarget as error:
            return refusal(400, str(error))
        host = wanted.host if wanted.host is not None else said.get(b"host")
        if b"host" not in said and minor > 0:
            return refusal(400, "a request needs one Host header")
        for one in {host, said.get(b"host")}:
            if one is not None and (refused := _judge_host(one)):
                return refused
        origin = said.get(b"origin")
        if origin is not None and not trust.is_trusted_origin(origin):
            return refusal(403, "pages of other machines cannot ask this gateway (its Origin is not local)")
        expected = said.get(b"expect")
        if expected is not None and expected.lower() != "100-continue":
            return refusal(417, "the one thing that can be expected is 100-continue")
        size = said.get(b"content-length", "")
        self._said_length = int(size) if size.isdecimal() else -1
        if self._said_length > self._connection.most_body:
            return _too_large(self._connection.most_body)
        self.continues = expected is not None and minor > 0
        self._query = wanted.query
        name = trust.host_name(host) or "" if host is not None else ""
        authorization = said.get(b"authorization", "").encode("latin-1")
        return self._connection.directory.find(self.method, name, wanted, authorization)

    def _said(self) -> dict[bytes, str] | Reply:
        """The headers that matter here, each of which may stand there once."""
        said: dict[bytes, str] = {}
        for name, value in self.headers:
            if name in _READ:
                if name in said:
                    return refusal(400, f"the header {name.decode()} stands there twice")
                said[name] = value.decode("latin-1")
        return said

    # ── to the engine ─────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        answerer, connection = self._answerer, self._connection
        assert answerer is not None
        self.begun = True
        first = self._take(kinds.WINDOW)
        try:
            self._exchange = connection.exchanges.begin(
                answerer.function,
                self,
                method=self.method,
                path=answerer.path,
                query=self._query,
                headers=self._passed_on(answerer),
                params=answerer.params,
                body=first,
                more=not self.complete or bool(self._chunks),
            )
        except QueueFull as error:
            seconds = max(1, (error.retry_after_ms or 1000) // 1000)
            self.write(refusal(503, _told(error), (("retry-after", str(seconds)),)))
        except EngineRefused as error:
            self.keep_alive = False
            self.write(refusal(503, _told(error), (("retry-after", "1"),)))

    def _passed_on(self, answerer: Answerer) -> list[tuple[str, str]]:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self.headers
            if name not in _HOP and name != b"authorization"
        ]
        if answerer.prefix:
            headers.append(("x-forwarded-prefix", answerer.prefix))
        return headers

    def _take(self, most: int) -> bytes:
        """The first bytes of what has come and was not passed on."""
        taken: list[bytes] = []
        while self._chunks and most:
            piece = self._chunks.popleft()
            if len(piece) > most:
                self._chunks.appendleft(piece[most:])
                piece = piece[:most]
            most -= len(piece)
            self._pending -= len(piece)
            taken.append(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _pass_on(self) -> None:
        """Sends what has come of the body as far as its worker has room, and has the client wait where it has not."""
        exchange = self._exchange
        if exchange is None or not exchange.head.more:
            return
        while self._window and self._chunks:
            piece = self._take(min(self._window, kinds.INLINE_LIMIT))
            self._window -= len(piece)
            self._connection.exchanges.send(exchange, piece, last=self.complete and not self._chunks)
            if self.complete and not self._chunks:
                return
        if self.complete and not self._chunks and self._window >= 0:
            self._window = -1  # said once
            self._connection.exchanges.send(exchange, b"", last=True)
        self._connection.hold_back(self._pending > kinds.INLINE_LIMIT)

    def vanish(self) -> None:
        """The connection is gone."""
        if self._exchange is not None and not self.done:
            self.done = True
            self._connection.exchanges.abandon(self._exchange, _GONE)
        self.done = True

    def flushed(self) -> None:
        """What was written has gone out."""
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
        if self._window >= 0 and not self.done:
            self._window += size
            if self.begun:
                self._pass_on()

    @_contained
    def fail(self, error: ErrorInfo) -> None:
        """There is no worker, or none any more."""
        if self.done:
            return
        if self.answered:
            self._break_off()
            return
        status = _CODES.get(error.kind, 502)
        logger.warning("request %s: %d, %s", self._id(), status, error.message.partition("\n")[0])
        if status == 503:
            self.write(refusal(503, error.message[:_SHORT], (("retry-after", "5"),), id=self._id()))
        else:
            first = error.message.partition("\n")[0]
            self.write(refusal(status, first, id=self._id()))

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def write(self, answer: Reply) -> None:
        """The gateway's own answer."""
        self.answered = True
        close = self._closes()
        length = len(answer.body) if reply.has_body(answer.status) else None
        head = reply.head_of(answer.status, answer.headers, length=length, close=close)
        body = answer.body if length and self.method != "HEAD" else b""
        self._connection.write(head + body)
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
        self._chunks.clear()
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


@functools.lru_cache(maxsize=256)
def _judge_host(host: str) -> Reply | None:
    name = trust.host_name(host)
    if name is None:
        return refusal(400, "the Host header names no host")
    if not trust.is_trusted(name):
        return refusal(403, f"the host {name!r} is not local: ask for localhost, 127.0.0.1 or NAME.localhost")
    return None


def _too_large(most: int) -> Reply:
    return refusal(413, f"the body may have {most} bytes (FLASH_GATEWAY_BODY)")


def _told(error: FlashError) -> str:
    return "; ".join(piece for piece in (error.what, error.why) if piece)


def _length_of(head: HttpRes) -> int | None:
    """What a stream says of its length."""
    said = next((value for name, value in head.headers if name.lower() == "content-length"), "")
    return int(said) if said.isdigit() else None
