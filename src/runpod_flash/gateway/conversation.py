"""A connection that has asked for another protocol than HTTP, from its handshake to its end.

It takes the place of the connection that read the request. What both kinds share is here: a websocket whose messages
an application gets (`websocket.py`), and bytes that a program gets as they come (`tunnel.py`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from runpod_flash.engine import affinity
from runpod_flash.engine.affinity import WorkerGone
from runpod_flash.engine.exchanges import ASKER_GONE, CREDIT_AT
from runpod_flash.engine.records import Exchange
from runpod_flash.errors import EngineRefused, QueueFull
from runpod_flash.gateway import failures, reply
from runpod_flash.gateway.containment import contained
from runpod_flash.gateway.handshake import Asked
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.wire.messages import Data, ErrorInfo, HttpRes

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway

logger = logging.getLogger(__name__)

STALLED_S: Final = 120.0
LINGER_S: Final = 2.0
MOST_EARLY: Final = 64 * 1024
"""Bytes that a client may send before it knows whether anybody wants them."""
_RESTART: Final = 1012, "service restart"
_LEAVING: Final = 1001, "the engine is leaving"


class Conversation(asyncio.Protocol, ABC):
    """One client. It is the engine's asker."""

    def __init__(self, gateway: Gateway, transport: asyncio.Transport, asked: Asked) -> None:
        self.deadline = math.inf  # monotonic
        self._gateway = gateway
        self._exchanges = gateway.exchanges
        self._transport: asyncio.Transport | None = transport
        self._asked = asked
        self._exchange: Exchange | None = None
        self._agreed = False  # the client knows that its protocol is spoken from here on
        self._over = False  # nothing more is said to the client, nor heard from it
        self._early = bytearray(asked.early)
        self._full = False
        self._paused = False
        self._unpaid = 0  # bytes sent to the client that its worker has no credit for yet

    def begin(self) -> None:
        """Asks for a worker."""
        asked = self._asked
        prefix = [("x-forwarded-prefix", asked.answerer.prefix)] if asked.answerer.prefix else []
        try:
            question = self._exchanges.question(
                asked.answerer.function,
                method="GET",
                path=asked.answerer.path,
                query=asked.query,
                headers=[*asked.passed_on, *prefix],
                more=True,
                upgrade=asked.upgrade.name,
                target=asked.target,
            )
            self._exchange = self._exchanges.begin(question, self, b"", converser=self)
        except WorkerGone as error:
            self.refuse(failures.answer_to(affinity.gone(str(error)), ""))
        except (EngineRefused, QueueFull) as error:
            self.refuse(failures.refusal_of(error))

    # ── what each kind does in its own way ────────────────────────────────────────────────────────

    @abstractmethod
    def _agree(self, head: HttpRes) -> None:
        """The worker speaks the protocol: says so to the client."""

    @abstractmethod
    def _heard(self, data: bytes) -> None:
        """The client says something."""

    @abstractmethod
    def _room(self, size: int) -> None:
        """The worker has room for so much more."""

    @abstractmethod
    def message(self, head: Data, body: bytes) -> None:
        """The worker says a piece of a message, or the close."""

    @abstractmethod
    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The worker says something, or ends."""

    @abstractmethod
    def _end(self, code: int, reason: str) -> None:
        """Ends an agreed conversation; `code` and `reason` are those of a websocket's close."""

    # ── what the engine says ──────────────────────────────────────────────────────────────────────

    @contained
    def answer(self, head: HttpRes, body: bytes, *, last: bool) -> None:
        """The worker agrees, or not."""
        if self._over or self._agreed:
            return
        if head.status == 101 and not last:
            self._agreed = True
            self._agree(head)
            if self._early and not self._over:
                early, self._early = bytes(self._early), bytearray()
                self._heard(early)
            return
        status = head.status if head.status >= 200 else 502
        self.refuse(Reply(status, tuple(head.headers), body), last=last)

    @contained
    def allow(self, size: int) -> None:
        """The worker has room for so much more."""
        if not self._over:
            self._room(size)

    @contained
    def fail(self, error: ErrorInfo) -> None:
        """There is no worker, or none any more."""
        self._exchange = None
        if self._over:
            return
        if self._agreed and self._exchanges.draining:
            self._end(*_LEAVING)
        elif self._agreed:
            self._end(1011, "its worker was lost")
        else:
            self.refuse(failures.answer_to(error, ""))

    @contained
    def retire(self) -> None:
        """Its worker takes nothing new, or the engine: the client may begin again at another."""
        if not self._over:
            if self._agreed:
                self._end(*(_LEAVING if self._exchanges.draining else _RESTART))
            else:
                self.refuse(refusal(503, "its worker is about to end: ask again", (("retry-after", "1"),)))

    # ── what the loop says ────────────────────────────────────────────────────────────────────────

    @contained
    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._agreed:
            self._heard(data)
            return
        self._early += data
        if len(self._early) > MOST_EARLY:
            self.cut_off()

    def eof_received(self) -> None:
        """The client is gone; the transport closes."""

    def pause_writing(self) -> None:
        self._full = True
        self.deadline = self._gateway.loop.time() + STALLED_S

    @contained
    def resume_writing(self) -> None:
        self._full = False
        if not self._over:
            self.deadline = math.inf
            self._pay()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self._over = None, True
        self._gateway.leave(self)
        self._part()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def refuse(self, refused: Reply, *, last: bool = True) -> None:
        """Answers in HTTP, and that was it."""
        if self._over:
            return
        if last:
            self._exchange = None
        carries = reply.has_body(refused.status)
        try:
            head = reply.head_of(
                refused.status, refused.headers, length=len(refused.body) if carries else None, close=True
            )
        except reply.BadHeader as error:
            logger.warning("a handshake was answered with what cannot be sent: %s", error)
            self.cut_off()
            return
        self._write(head + refused.body if carries else head)
        self._hang_up()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _owe(self, size: int) -> None:
        """So much was written that the worker has no credit for yet."""
        self._unpaid += size
        if self._unpaid >= CREDIT_AT and not self._full:
            self._pay()

    def _pay(self) -> None:
        if self._unpaid and self._exchange is not None:
            self._exchanges.used(self._exchange, self._unpaid)
            self._unpaid = 0

    def _hold_back(self, hold: bool) -> None:
        """Reads nothing while the worker has no room."""
        if hold != self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def _hang_up(self) -> None:
        """Closes, once the client has had the time to read what it was told."""
        self._over = True
        self._part()
        if self._transport is not None and not self._transport.is_closing():
            self._hold_back(False)
            self.deadline = self._gateway.loop.time() + LINGER_S
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def _part(self) -> None:
        """The worker has nothing to do for this client any more."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._leave_word(exchange)
            self._exchanges.abandon(exchange, ASKER_GONE)

    def _leave_word(self, exchange: Exchange) -> None:
        """Says to the worker how it ended."""

    def _say(self, head: Data, body: bytes = b"", *, last: bool = False) -> None:
        if self._exchange is not None:
            self._exchanges.say(self._exchange, head, body, last=last)

    def cut_off(self) -> None:
        """Ends the connection at once."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    @contained
    def close(self) -> None:
        """The gateway leaves."""
        if self._agreed and not self._over:
            self._end(*_LEAVING)
        elif not self._over:
            self.refuse(refusal(503, "the engine is leaving", (("retry-after", "1"),)))

    def overdue(self) -> None:
        """The deadline is over."""
        self.cut_off()
