"""Which kind of conversation it is that a request asks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runpod_flash.gateway.conversation import Conversation
from runpod_flash.gateway.handshake import Asked

if TYPE_CHECKING:
    from runpod_flash.gateway.gateway import Gateway


def of(gateway: Gateway, transport: asyncio.Transport, asked: Asked) -> Conversation:
    """A websocket for an application, bare bytes for a program."""
    if asked.answerer.function.pool.spec.application is not None:
        from runpod_flash.gateway.websocket import WebSocket  # noqa: PLC0415 - loads a library

        return WebSocket(gateway, transport, asked)
    from runpod_flash.gateway.tunnel import Tunnel  # noqa: PLC0415 - as above

    return Tunnel(gateway, transport, asked)
