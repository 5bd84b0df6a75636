"""One client's connection: bytes in, requests one after the other, answers in the same order.

A request that comes while one is being answered waits, and nothing more is read meanwhile. Otherwise reading goes on
while a function runs, for the one way to learn that a client has gone is to read.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, cast

import httptools

from runpod_flash.gateway import fields, handshake
from runpod_flash.gateway.fields import Fields, RawHeaders
from runpod_flash.gateway.handshake import Upgrade
from runpod_flash.gateway.incoming import Incoming
from runpod_flash.gateway.reply import Reply, refusal

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway

logger = logging.getLogger(__name__)

MOST_HEAD: Final = 64 * 1024
"""Bytes of a request line with all its headers."""
MOST_TARGET: Final = 16 * 1024
MOST_HEADERS: Final = 100
MOST_WAITING: Final = 16
"""Requests that one client may send ahead; those beyond are not read, and the connection ends after the last."""
IDLE_S: Final = 75.0
HEAD_S: Final = 20.0
BODY_S: Final = 20.0
SLOWEST: Final = 4096
"""Bytes of a body a second, below which its sender is too slow."""
STALLED_S: Final = 120.0
LINGER_S: Final = 2.0
_OUTBOX: Final = 256 * 1024


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, gateway: Gateway) -> None:
        self.exchanges = gateway.exchanges
        self.jobs = gateway.jobs
        self.directory = gateway.directory
        self.limits = gateway.limits
        self.deadline = math.inf  # monotonic
        self.full = False  # the client does not read as fast as we write
        self.minor = 1  # of HTTP/1
        self._gateway = gateway
        self._loop = gateway.loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._reading: Incoming | None = None  # of which not all has come
        self._current: Incoming | None = None  # which is to be answered
        self._waiting: deque[Incoming] = deque()
        self._upgrading: tuple[Upgrade, Incoming] | None = None  # which asks for another protocol
        self._head_size = 0
        self._body_since = 0.0
        self.fresh = True  # it has asked nothing yet
        self._deaf = False  # nothing that comes is looked at any more
        self._held = False
        self._paused = False
        self._known: tuple[RawHeaders, int, Fields | Reply] = [], -1, _NO_HTTP

    def fields_of(self, headers: RawHeaders, minor: int) -> Fields | Reply:
        """What the headers say. A client says mostly what it has said the last time."""
        if headers != self._known[0] or minor != self._known[1]:
            self._known = headers, minor, fields.read(headers, minor)
        return self._known[2]

    @property
    def leaving(self) -> bool:
        """Whether each answer is the last one here."""
        return self.exchanges.draining

    # ── what the loop calls ───────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_OUTBOX)
        self.deadline = self._loop.time() + HEAD_S
        self._gateway.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        fresh = self._reading is None and self._current is None
        if fresh and self._repeats(data):
            return
        if self._reading is None or not self._reading.headed:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._deaf = True  # what follows is another protocol
            if self._upgrading is not None:
                self._change(self._upgrading, data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            logger.error("a request could not be handled", exc_info=error)
            self.cut_off()
        except httptools.HttpParserError:
            self._malformed(_NO_HTTP)
        else:
            reading = self._reading
            if reading is not None and not reading.headed and self._head_size > MOST_HEAD:
                self._malformed(_TOO_LARGE)
            elif fresh and self._current is not None and (known := self._current.known()) is not None:
                self._gateway.repeats.keep(data, known)

    def _repeats(self, data: bytes) -> bool:
        """Whether that was one whole request with a head that is known; then it is on its way."""
        found = self._gateway.repeats.find(data)
        if found is None:
            return False
        self.minor = 1
        if not self.full:
            self.deadline = math.inf
        self._current = incoming = Incoming(self)
        incoming.repeat(*found)
        return True

    def eof_received(self) -> None:
        """The client is gone, or says nothing more, which nobody can tell apart; the transport closes."""

    def pause_writing(self) -> None:
        self.full = True
        self.deadline = self._loop.time() + STALLED_S

    def resume_writing(self) -> None:
        self.full = False
        self.deadline = math.inf
        if self._current is not None:
            self._current.flushed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self._deaf = None, True
        self._gateway.leave(self)
        current, self._current = self._current, None
        self._waiting.clear()
        if current is not None:
            current.vanish()

    # ── what the parser calls ─────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        self._reading = Incoming(self)
        if self._current is None:
            self.deadline = self._loop.time() + HEAD_S

    def on_url(self, url: bytes) -> None:
        assert self._reading is not None
        self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        reading = self._reading
        if reading is not None and not reading.headed:
            reading.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        reading, parser = self._reading, self._parser
        if reading is None or self._deaf:
            return
        # What came may have more in it than the head: only where that is too much is it looked at closely.
        large = self._head_size > MOST_HEAD and sum(len(n) + len(v) for n, v in reading.headers) > MOST_HEAD
        self._head_size = 0
        if large or len(reading.headers) > MOST_HEADERS:
            reading.refuse(_TOO_LARGE)
        elif len(reading.target) > MOST_TARGET:
            reading.refuse(_TOO_LONG)
        version = parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            reading.refuse(_NO_HTTP)
        self.minor = 0 if version == "1.0" else 1
        method = parser.get_method().decode("ascii")
        if parser.should_upgrade():
            self._ask_for_another(reading, method)
            return
        reading.head_complete(method, minor=self.minor, keep_alive=parser.should_keep_alive())
        self._queue(reading)

    def on_body(self, body: bytes) -> None:
        if self._reading is not None:
            self._reading.body(body)
            if not self._held and not self.full:
                self.deadline = self._body_since + BODY_S + self._reading.received / SLOWEST

    def on_message_complete(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            if not self.full:
                self.deadline = math.inf
            reading.end()
            if reading.done and self._current is None and not self._deaf:
                self.deadline = self._loop.time() + IDLE_S

    def _ask_for_another(self, reading: Incoming, method: str) -> None:
        """A request for another protocol. Who speaks none of that kind answers in HTTP."""
        upgrade = handshake.upgrade_of(reading.headers)
        reading.headers = handshake.with_token(reading.headers)
        reading.head_complete(method, minor=self.minor, keep_alive=False)
        if self._current is None and reading.may_converse(upgrade):
            self._upgrading = upgrade, reading  # until the parser says where the rest begins
        else:
            self._queue(reading)

    def _change(self, upgrading: tuple[Upgrade, Incoming], rest: bytes) -> None:
        """Another takes over the transport, and speaks the protocol that was asked for."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        from runpod_flash.gateway import conversing  # noqa: PLC0415 - few clients ask for another protocol

        other = conversing.of(self._gateway, transport, *upgrading, rest)
        self._transport = None
        transport.set_protocol(other)
        self._gateway.leave(self)
        self._gateway.enter(other)
        other.begin()

    # ── one after the other ───────────────────────────────────────────────────────────────────────

    def _queue(self, incoming: Incoming) -> None:
        self.fresh = False
        if self._current is None:
            self._body_since = self._loop.time()
            self.deadline = self._body_since + BODY_S
            self._current = incoming
            incoming.current = True
            incoming.advance()
            return
        self._waiting.append(incoming)
        if len(self._waiting) >= MOST_WAITING:
            incoming.keep_alive, self._deaf = False, True
        self._pause()

    def answered(self, incoming: Incoming, *, close: bool) -> None:
        """An answer has been written, and the next request's turn has come."""
        self._current = None
        self._held = False
        if close:
            self._waiting.clear()
            self._end()
            return
        if self._waiting:
            # Not from here: a client that sends many ahead would have us call ourselves as many times.
            self._loop.call_soon(self._next)
        else:
            self._pause()
            self.deadline = self._loop.time() + IDLE_S

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._current.current = True
            self._pause()
            self._current.advance()

    def _malformed(self, refused: Reply) -> None:
        """What comes cannot be read, and so nothing after it."""
        self._deaf = True
        reading, self._reading = self._reading, None
        if reading is None or (reading.headed and reading.done):
            reading = Incoming(self)
        reading.refuse(refused)
        if not reading.headed:
            reading.headed = True
            self._queue(reading)

    # ── out ───────────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Sends."""
        if self._transport is not None:
            self._transport.write(data)

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Sends pieces as one."""
        if self._transport is not None:
            self._transport.writelines(pieces)

    def hold_back(self, hold: bool) -> None:
        """Reads nothing while a worker has no room for more of a body."""
        if hold != self._held:
            self._held = hold
            self.deadline = math.inf if hold else self._loop.time() + BODY_S
            self._pause()

    def _pause(self) -> None:
        wanted = self._held or bool(self._waiting)
        if wanted == self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = wanted
        if wanted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def _end(self) -> None:
        """Closes, once the client has had the time to read what it was told.

        A connection that is closed with unread bytes is reset, and what is still under way to the client is lost.
        """
        more, self._deaf = self._deaf or self._paused or self._reading is not None, True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not more:
            transport.close()
            return
        if self._paused:
            self._paused = self._held = False
            transport.resume_reading()
        self.deadline = self._loop.time() + LINGER_S
        transport.write_eof()

    def cut_off(self) -> None:
        """Ends the connection at once."""
        self._deaf = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """The gateway leaves: what is being answered is broken off, what has not begun is told why."""
        current = self._current
        if current is None:
            self._end()
        elif current.answered:
            self.cut_off()
        else:
            current.refuse(_LEFT if current.begun else _LEAVING)

    def overdue(self) -> None:
        """The deadline is over."""
        self.deadline = math.inf
        current, reading = self._current, self._reading
        if self._deaf or self.full:
            self.cut_off()
        elif current is not None and not current.complete:
            current.refuse(_TOO_SLOW)
        elif reading is not None and not reading.headed:
            self._malformed(_TOO_SLOW)
        elif current is None:
            self._end()


_LEAVING: Final = refusal(503, "the engine is leaving", (("retry-after", "1"),))
_LEFT: Final = refusal(502, "the engine left before the worker had answered; the request may have run")
_NO_HTTP: Final = refusal(400, "that is no request of HTTP/1.1")
_TOO_LARGE: Final = refusal(431, f"the headers may have {MOST_HEAD} bytes and be {MOST_HEADERS}")
_TOO_LONG: Final = refusal(414, f"the request target may have {MOST_TARGET} bytes")
_TOO_SLOW: Final = refusal(408, "the request came too slowly")
