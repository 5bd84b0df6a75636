"""Another protocol than HTTP for a port, a websocket say: after the head of the request, bytes both ways."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from runpod_flash.gateway import ports, reply
from runpod_flash.gateway.ports import Port, Upside
from runpod_flash.gateway.reply import Reply

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway

STALLED_S: Final = 120.0
LINGER_S: Final = 2.0
_MOST_EARLY: Final = 64 * 1024


class PortTunnel(asyncio.Protocol):
    """One client."""

    def __init__(self, gateway: Gateway, transport: asyncio.Transport, port: Port, head: bytes, early: bytes) -> None:
        self.deadline = math.inf  # monotonic
        self._gateway = gateway
        self._transport: asyncio.Transport | None = transport
        self._port = port
        self._early = bytearray(head + early)
        self._upside: Upside | None = None
        self._answered = False
        self._over = False
        self._connecting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Connects to the program."""
        self._connecting = self._gateway.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._upside = await Upside.open(self._port, self._heard, self._ended, self._room)
        except OSError as error:
            self._refuse(ports.no_answer(self._port, f"does not answer ({error.strerror or error})"))
            return
        if self._over:
            self._upside.close()
            return
        self._upside.write(bytes(self._early))
        self._early.clear()

    # ── the client ────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._upside is None:
            self._early += data
            if len(self._early) > _MOST_EARLY:
                self.cut_off()
            return
        self._upside.write(data)
        if self._upside.full and self._transport is not None:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self.deadline = self._gateway.loop.time() + STALLED_S
        if self._upside is not None:
            self._upside.hold_back(True)

    def resume_writing(self) -> None:
        if not self._over:
            self.deadline = math.inf
        if self._upside is not None:
            self._upside.hold_back(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self._over = None, True
        self._gateway.leave(self)
        if self._upside is not None:
            self._upside.close()

    # ── the program ───────────────────────────────────────────────────────────────────────────────

    def _heard(self, data: bytes) -> None:
        self._answered = True
        if self._transport is not None and not self._over:
            self._transport.write(data)

    def _room(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _ended(self) -> None:
        if not self._over and not self._answered:
            self._refuse(ports.no_answer(self._port, "closed the connection without an answer"))
        elif not self._over:
            self._hang_up()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, refused: Reply) -> None:
        if self._transport is not None and not self._over:
            head = reply.head_of(refused.status, refused.headers, length=len(refused.body), close=True)
            self._transport.write(head + refused.body)
            self._hang_up()

    def _hang_up(self) -> None:
        """Closes, once the client has had the time to read."""
        self._over = True
        self.deadline = self._gateway.loop.time() + LINGER_S
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()

    def cut_off(self) -> None:
        """Ends the connection at once."""
        self._over = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """The gateway leaves: nothing may be said between the bytes of another protocol."""
        self.cut_off()

    def overdue(self) -> None:
        """The deadline is over."""
        self.cut_off()
