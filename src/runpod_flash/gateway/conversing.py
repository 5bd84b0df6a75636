"""What takes over a connection that asks for another protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runpod_flash.gateway.conversation import Conversation
from runpod_flash.gateway.handshake import Upgrade
from runpod_flash.gateway.port_tunnel import PortTunnel
from runpod_flash.gateway.tunnel import Tunnel

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway
    from runpod_flash.gateway.incoming import Incoming


def of(
    gateway: Gateway, transport: asyncio.Transport, upgrade: Upgrade, request: Incoming, rest: bytes
) -> Conversation | PortTunnel:
    """A websocket for an application, bare bytes for a program, or for what listens at a port."""
    if request.port is not None:
        asks = [(b"connection", b"Upgrade"), (b"upgrade", upgrade.name.encode("latin-1"))]
        return PortTunnel(gateway, transport, request.port, request.head_for_port(request.port, asks), rest)
    asked = request.asked(upgrade, rest)
    if asked.answerer.function.pool.spec.application is not None:
        from runpod_flash.gateway.websocket import WebSocket  # noqa: PLC0415 - loads a library

        return WebSocket(gateway, transport, asked)
    return Tunnel(gateway, transport, asked)
