"""Another protocol than HTTP for a program: what the client sends is what the program gets, and the other way round."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from runpod_flash.engine.records import Exchange
from runpod_flash.gateway import reply
from runpod_flash.gateway.containment import contained
from runpod_flash.gateway.conversation import Conversation
from runpod_flash.gateway.frames import Frames, close_frame
from runpod_flash.wire import kinds
from runpod_flash.wire.messages import Data, HttpRes

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway
    from runpod_flash.gateway.handshake import Asked

_PROTOCOL: Final = "sec-websocket-protocol"


class Tunnel(Conversation):
    """Bytes both ways."""

    def __init__(self, gateway: Gateway, transport: asyncio.Transport, asked: Asked) -> None:
        super().__init__(gateway, transport, asked)
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._free = 0
        # Of a websocket it is known where its frames end, so that it can be closed as one.
        self._frames = Frames() if asked.upgrade.name == "websocket" else None

    def _agree(self, head: HttpRes) -> None:
        headers = list(head.headers)
        carried = self._asked.upgrade.token_protocol
        if carried and not any(name.lower() == _PROTOCOL for name, _value in headers):
            headers.append((_PROTOCOL, carried))
        self._write(reply.switching(headers, self._asked.upgrade.name))

    def _heard(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        self._send_waiting()

    def _room(self, size: int) -> None:
        self._free += size
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._pieces and self._free > 0:
            data = self._pieces.popleft()
            size = min(self._free, kinds.INLINE_LIMIT)
            if len(data) > size:
                self._pieces.appendleft(data[size:])
                data = data[:size]
            self._free -= len(data)
            self._waiting -= len(data)
            self._say(Data(), data)
        self._hold_back(self._waiting > kinds.INLINE_LIMIT)

    def message(self, head: Data, body: bytes) -> None:
        """No program says messages."""

    @contained
    def data(self, body: bytes, *, last: bool, broken: bool) -> None:
        """The program says something, or ends."""
        self._exchange = None if last else self._exchange
        if self._over or not self._agreed:
            return
        if body:
            self._write(body)
            self._owe(len(body))
            if self._frames is not None:
                self._frames.feed(body)
        if last:
            if broken:
                self.cut_off()
            else:
                self._hang_up()

    def _end(self, code: int, reason: str) -> None:
        """Closes a websocket between two of its frames. In the middle of one, or of another protocol, it is cut."""
        if self._frames is None or not self._frames.between:
            self.cut_off()
            return
        self._write(close_frame(code, reason))
        self._hang_up()

    def _leave_word(self, exchange: Exchange) -> None:
        """The cancellation that follows says all there is."""
