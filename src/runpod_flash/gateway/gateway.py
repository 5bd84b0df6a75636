"""The gateway as a whole: where it listens, who is connected, what they all share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runpod_flash.engine.engine import Engine
from runpod_flash.errors import ConfigError
from runpod_flash.gateway.limits import Limits
from runpod_flash.gateway.runpod.webhooks import Teller
from runpod_flash.gateway.token import Key
from runpod_flash.settings import Settings
from runpod_flash.wire.signing import secret_of

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection
    from runpod_flash.gateway.conversation import Conversation
    from runpod_flash.gateway.directory import Directory
    from runpod_flash.gateway.port_tunnel import PortTunnel
    from runpod_flash.gateway.repeats import Repeats

logger = logging.getLogger(__name__)

ADDRESS: Final = "127.0.0.1"
MOST_CONNECTIONS: Final = 4096
_BACKLOG: Final = 1024
_REMEMBERED: Final = "gateway.port"
_FIRST_PORT: Final = 21_000
_PORTS: Final = 8_000
_TRIES: Final = 20
_LOOK_S: Final = 1.0
FRESH_S: Final = 0.5
"""Time for the first request on a connection that was there when the gateway is closed."""
_TICK_S: Final = 0.01


class Gateway:
    """Answers HTTP on one port of this machine."""

    def __init__(self, engine: Engine, token: str, listener: socket.socket, settings: Settings) -> None:
        self.exchanges = engine.exchanges
        self.jobs = engine.http_jobs
        self.limits = Limits(settings)
        self.loop = asyncio.get_running_loop()
        self._token = token
        self._teller = Teller(engine.webhooks, secret_of(token), settings.webhook_pause)
        self.listener = listener
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[Connection | Conversation | PortTunnel] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{ADDRESS}:{self.listener.getsockname()[1]}"

    @functools.cached_property
    def directory(self) -> Directory:
        """Whose requests are."""
        from runpod_flash.gateway.directory import Directory  # noqa: PLC0415 - as below

        return Directory(self.exchanges, Key(self._token))

    @functools.cached_property
    def repeats(self) -> Repeats:
        """What was asked lately."""
        from runpod_flash.gateway.repeats import Repeats  # noqa: PLC0415 - as below

        return Repeats(self.directory)

    async def start(self) -> None:
        """Takes connections from here on. What reads them is loaded with the first."""
        self._teller.start()
        self._server = await self.loop.create_server(self._connection, sock=self.listener, backlog=_BACKLOG)

    def _connection(self) -> asyncio.Protocol:
        from runpod_flash.gateway.connection import Connection  # noqa: PLC0415 - an engine nobody asks needs none

        return Connection(self)

    def enter(self, connection: Connection | Conversation | PortTunnel) -> None:
        """Somebody has connected."""
        self._connections.add(connection)
        self._empty.clear()
        if len(self._connections) > MOST_CONNECTIONS:
            connection.cut_off()
        elif self._looking is None:
            self._looking = self.loop.call_later(_LOOK_S, self._look)

    def leave(self, connection: Connection | Conversation | PortTunnel) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _look(self) -> None:
        """One timer for the deadlines of all, instead of one or two for each request."""
        now = self.loop.time()
        for connection in [one for one in self._connections if one.deadline < now]:
            connection.overdue()
        self._looking = self.loop.call_later(_LOOK_S, self._look) if self._connections else None

    async def close(self, patience_s: float) -> None:
        """Takes nobody in any more, and ends all connections; who has just come is told why."""
        if self._server is not None:
            self._server.close()
        self.listener.close()
        if self._looking is not None:
            self._looking.cancel()
        end = self.loop.time() + FRESH_S
        while self._is_any_fresh() and self.loop.time() < end:  # noqa: ASYNC110  (once in a life)
            await asyncio.sleep(_TICK_S)
        for connection in list(self._connections):
            connection.close()
        await self._teller.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._empty.wait(), patience_s)
        for connection in list(self._connections):
            connection.cut_off()

    def _is_any_fresh(self) -> bool:
        return any(getattr(connection, "fresh", False) for connection in self._connections)


# ── the port ──────────────────────────────────────────────────────────────────────────────────────


def listen(home: Path, wanted: int) -> socket.socket:
    """A socket at the port that is wanted; with 0 at that of last time, or one that follows from the folder's name.

    So addresses that somebody wrote down go on to be right. A port that somebody else has is no reason not to start.
    """
    remembered = home / _REMEMBERED
    if wanted:
        listener = _bind(wanted)
        if listener is not None:
            return listener
        logger.warning("port %d (FLASH_GATEWAY_PORT) is taken: the gateway listens elsewhere", wanted)
    for port in _candidates(home, remembered):
        listener = _bind(port)
        if listener is not None:
            break
    else:
        listener = _must_bind()
    remembered.write_text(f"{listener.getsockname()[1]}\n", encoding="ascii")
    return listener


def _candidates(home: Path, remembered: Path) -> list[int]:
    """Ports that this folder would like to have. None of them is one that systems give to whoever connects."""
    start = int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4], "big")
    ports = [_FIRST_PORT + (start + n) % _PORTS for n in range(_TRIES)]
    try:
        last = int(remembered.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ports
    return [last, *ports] if 0 < last < 1 << 16 else ports


def _bind(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # For a port whose last connections are yet to be forgotten; two that listen still cannot share one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except (OSError, OverflowError):
        listener.close()
        return None
    return listener


def _must_bind() -> socket.socket:
    listener = _bind(0)
    if listener is None:
        raise ConfigError(
            f"the gateway finds no port at {ADDRESS} to listen at",
            why="the system gives none",
            fix="see which programs hold so many: ss -ltn",
        )
    return listener
