"""A websocket whose messages go to an application: frames to the client, messages to the worker.

The framing is that of the library `websockets`, the part of it that does no I/O. Pings are answered here, and what is
no websocket's is refused here, so a worker sees whole messages, or their pieces, and a close.
"""

from __future__ import annotations

import codecs
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from runpod_flash.engine.records import Exchange
from runpod_flash.gateway import reply
from runpod_flash.gateway.containment import contained
from runpod_flash.gateway.conversation import Conversation
from runpod_flash.gateway.reply import refusal
from runpod_flash.wire import kinds
from runpod_flash.wire.messages import Data, HttpRes

if TYPE_CHECKING:
    import asyncio

    from runpod_flash.gateway.gateway import Gateway
    from runpod_flash.gateway.handshake import Asked

MOST_MESSAGE: Final = 16 * 1024 * 1024
"""Bytes of one message of a client."""
CLOSE_S: Final = 10.0
"""How long a client has to answer a close."""
_HANDSHAKE: Final = frozenset({b"host", b"connection", b"upgrade"})
_PROTOCOL: Final = "sec-websocket-protocol"
_OURS: Final = ("sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-version")
_ABNORMAL: Final = 1006

# Not the library's own: it reports every connection.
_log = logging.getLogger(f"{__name__}.frames")
_log.setLevel(logging.WARNING)


class WebSocket(Conversation):
    """One websocket, between a client and an application."""

    def __init__(self, gateway: Gateway, transport: asyncio.Transport, asked: Asked) -> None:
        super().__init__(gateway, transport, asked)
        self._protocol = ServerProtocol(max_size=MOST_MESSAGE, logger=_log)
        self._response: Response | None = None
        self._kind = ""  # of the message that comes in: text | binary
        self._text: Any = None  # decodes it, if it is text
        self._pieces: deque[tuple[str, bytes, bool]] = deque()  # kind, bytes, whether the message goes on
        self._waiting = 0  # bytes of these
        self._free = 0  # bytes for which the worker has room
        self._continues = False  # a message that goes out is not complete
        self._closed = (_ABNORMAL, "")  # how it ended, as the worker is told

    def begin(self) -> None:
        """Looks at the handshake, then asks for a worker."""
        response = self._shake_hands()
        if response is None:
            self.refuse(refusal(400, "that is no handshake of a websocket"))
        elif response.status_code != 101:
            told = (response.body or b"").decode("utf-8", "replace").strip().partition("\n")[0]
            headers = tuple((n, v) for n, v in response.headers.raw_items() if n.lower() in {"upgrade", "allow"})
            self.refuse(refusal(response.status_code, told, headers))
        else:
            self._response = response
            super().begin()

    def _shake_hands(self) -> Response | None:
        lines = [b"GET / HTTP/1.1"]
        for name, value in self._asked.headers:
            if name in _HANDSHAKE or name.startswith(b"sec-websocket-"):
                lines.append(name + b": " + value)
        self._protocol.receive_data(b"\r\n".join([*lines, b"", b""]))
        asked = [event for event in self._protocol.events_received() if isinstance(event, Request)]
        return self._protocol.accept(asked[0]) if asked else None

    def _agree(self, head: HttpRes) -> None:
        response = self._response
        assert response is not None
        for name, value in head.headers:
            if name.lower() in _OURS:
                continue
            reply.check_header(name, value)
            response.headers[name] = value
        carried = self._asked.upgrade.token_protocol
        if carried and _PROTOCOL not in response.headers:
            # A browser that has offered some wants one of them. This one says nothing that it did not know.
            response.headers[_PROTOCOL] = carried
        self._protocol.send_response(response)
        self._flush()

    # ── from the client ───────────────────────────────────────────────────────────────────────────

    def _heard(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self._flush()
        if self._protocol.parser_exc is not None and not self._over:
            sent = self._protocol.close_sent
            self._closed = (sent.code, sent.reason) if sent is not None else self._closed
            self._hang_up()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            received = self._protocol.close_rcvd
            if received is not None:
                self._closed = received.code, received.reason
            return
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            return
        if frame.opcode is Opcode.TEXT:
            self._kind, self._text = "text", codecs.getincrementaldecoder("utf-8")()
        elif frame.opcode is Opcode.BINARY:
            self._kind, self._text = "binary", None
        data = bytes(frame.data)
        if self._text is not None:
            try:
                self._text.decode(data, final=frame.fin)
            except UnicodeDecodeError:
                self._protocol.fail(1007, "text that is not UTF-8")
                self._closed = 1007, ""
                self._flush()
                self._hang_up()
                return
        self._pieces.append((self._kind, data, not frame.fin))
        self._waiting += len(data)
        self._send_waiting()

    def _room(self, size: int) -> None:
        self._free += size
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Sends pieces as far as the worker has room, and has the client wait where it has not."""
        while self._pieces and (self._free > 0 or not self._pieces[0][1]):
            kind, data, more = self._pieces.popleft()
            size = min(self._free, kinds.INLINE_LIMIT)
            if len(data) > size:
                self._pieces.appendleft((kind, data[size:], more))
                data, more = data[:size], True
            self._free -= len(data)
            self._waiting -= len(data)
            self._say(Data(op=kind, more=more), data)
        self._hold_back(self._waiting > kinds.INLINE_LIMIT)

    # ── from the application ──────────────────────────────────────────────────────────────────────

    @contained
    def message(self, head: Data, body: bytes) -> None:
        """A piece of a message, or the close."""
        if self._over or not self._agreed:
            return
        if head.op == "close":
            self._end(head.code, head.reason)
        elif self._protocol.state is State.OPEN:
            if self._continues:
                self._protocol.send_continuation(body, not head.more)
            elif head.op == "text":
                self._protocol.send_text(body, not head.more)
            else:
                self._protocol.send_binary(body, not head.more)
            self._continues = head.more
            self._flush()
            self._owe(len(body))

    @contained
    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The application is done with it."""
        self._exchange = None if last else self._exchange
        if not self._over and last:
            self._end(1011 if broken else 1000, "")

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def _end(self, code: int, reason: str) -> None:
        if self._protocol.state is not State.OPEN:
            return
        try:
            self._protocol.send_close(code, reason[:100])
        except WebSocketException:
            self._protocol.send_close(1011)
        self._flush()
        self._closed = code, reason
        self.deadline = self._gateway.loop.time() + CLOSE_S
        self._pieces.clear()  # what came before the client knows goes nowhere any more
        self._hold_back(False)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._write(data)
            elif self._protocol.close_rcvd is not None and self._transport is not None:
                self._transport.close()  # both have said it

    def _leave_word(self, exchange: Exchange) -> None:
        self._exchanges.say(exchange, Data(op="close", code=self._closed[0], reason=self._closed[1]))
