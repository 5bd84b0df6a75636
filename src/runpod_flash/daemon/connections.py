"""Connections to the engine: who may come in, what they must say first, and how much may wait for them.

connected → (same user?) → HELLO within 10 s → (a protocol in common? leaving? known key?) → WELCOME → frames
                  └────────────────────────────────────────┴── REFUSE, and the connection ends
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from runpod_flash._version import __version__
from runpod_flash.daemon.skipped import SkippedLines
from runpod_flash.engine.turn import Link as EngineLink
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame, FrameError, FrameReader
from runpod_flash.wire.messages import BadHead, Error, Hello, Refuse, Welcome

logger = logging.getLogger(__name__)

HELLO_S: Final = 10.0
"""How long somebody who connected may take to say who it is."""
OUTBOX_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait for a peer; beyond it we read nothing from it until it has read."""
_SLICE: Final = 64
"""Frames of one connection that are handled before others have their turn, and before what they caused is sent."""
_ROLES: Final = ("client", "host", "worker")


class Links(Protocol):
    """Who decides whether somebody is welcome."""

    def welcome(self, proto: int) -> Welcome: ...
    def client_joined(self, link: EngineLink, hello: Hello) -> Refuse | None: ...
    def host_joined(self, link: EngineLink, hello: Hello) -> Refuse | None: ...
    def worker_joined(self, link: EngineLink, hello: Hello) -> Refuse | None: ...


class Engine(Protocol):
    """What connections need of the engine."""

    @property
    def links(self) -> Links: ...
    def received(self, link: EngineLink, message: Frame) -> None: ...
    def left(self, link: EngineLink) -> None: ...


class Reception:
    """What every connection meets: the engine, and whether it still takes anybody in."""

    def __init__(
        self,
        engine: Engine,
        *,
        outdated: Callable[[], bool],
        hand_over: Callable[[], None],
        hello_s: float = HELLO_S,
    ) -> None:
        self.engine = engine
        self.hello_s = hello_s
        self.leaving = False
        self._outdated = outdated  # our own package on disk is gone, or another
        self._hand_over = hand_over  # to the engine of another version
        self._links: set[Link] = set()
        self._empty = asyncio.Event()

    def enter(self, link: Link) -> None:
        """Somebody has connected."""
        self._links.add(link)
        self._empty.clear()

    def leave(self, link: Link) -> None:
        """A connection has ended."""
        self._links.discard(link)
        if not self._links:
            self._empty.set()

    async def close(self, patience_s: float) -> None:
        """Ends all connections; those that have not read what was sent to them by then are cut off."""
        self.leaving = True
        for link in list(self._links):
            link.close()
        if self._links:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)
        for link in list(self._links):
            link.abort()

    def admit(self, link: Link, hello: Hello) -> Welcome | Refuse:
        """Answers a HELLO; `link` belongs to the engine if that is a WELCOME."""
        if refusal := self._refusal(hello):
            return refusal
        link.role, link.pid = hello.role, hello.pid
        links = self.engine.links
        join = {"client": links.client_joined, "host": links.host_joined, "worker": links.worker_joined}[hello.role]
        if refused := join(link, hello):
            return refused
        return links.welcome(min(hello.proto_max, kinds.PROTO_MAX))

    def _refusal(self, hello: Hello) -> Refuse | None:
        if self.leaving:
            return Refuse(code="leaving", what="this engine is leaving", handover=True)
        if hello.role not in _ROLES:
            return Refuse(code="bad_hello", what=f"nobody here knows the role {hello.role!r}")
        if hello.role == "client" and self._outdated():
            self._hand_over()
            return Refuse(
                code="replaced",
                what="this engine is leaving",
                why="the package it was started from is gone or was replaced",
                handover=True,
            )
        return self._protocol_refusal(hello)

    def _protocol_refusal(self, hello: Hello) -> Refuse | None:
        ours = f"this engine (version {__version__}) speaks protocols {kinds.PROTO_MIN} to {kinds.PROTO_MAX}"
        theirs = f"a {hello.role} of version {hello.version} speaks {hello.proto_min} to {hello.proto_max}"
        if hello.proto_min > kinds.PROTO_MAX:
            # It cannot ask us to make room, having no words for it in common. A newer client starts a newer engine.
            newer = hello.role == "client"
            if newer:
                self._hand_over()
            return Refuse(code="protocol", what="no protocol in common", why=f"{ours}; {theirs}", handover=newer)
        if hello.proto_max < kinds.PROTO_MIN:
            fix = "upgrade that program's Flash: pip install -U flash-anywhere"
            return Refuse(code="protocol", what="no protocol in common", why=f"{ours}; {theirs}", fix=fix)
        return None


class Link(asyncio.Protocol):
    """One connection, of whichever role. `role`, `pid` and `state` are for the engine."""

    def __init__(self, reception: Reception) -> None:
        self.role = ""
        self.pid = 0
        self.state: Any = None
        self._reception = reception
        self._engine = reception.engine
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._take: Callable[[Frame], None] = self._greet
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._joined = False  # the engine knows of it
        self._full = False
        self._left: deque[Frame] = deque()  # frames that have come and are yet to be handled
        self._skipped = SkippedLines()

    # ── what the engine uses ──────────────────────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Sends complete frames; of output to somebody who does not read, only the notice that it was left out."""
        if self._transport is None:
            return
        if self._full or self._skipped.untold:
            data = self._skipped.sift(data, full=self._full)
        self._transport.write(data)

    def close(self) -> None:
        """Ends the connection after what was sent; nothing more is read."""
        self._take = _ignore
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def write_backlog(self) -> int:
        """Bytes that wait for the peer to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # ── what the loop calls ───────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are of no class of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        self._reception.enter(self)
        transport.set_write_buffer_limits(high=OUTBOX_LIMIT)
        uid = _peer_uid(transport.get_extra_info("socket"))
        if uid is not None and uid != os.getuid():
            logger.warning("refused a program of user %d", uid)
            self._refuse(Refuse(code="not_yours", what=f"this engine belongs to user {os.getuid()}"))
            return
        self._patience = self._loop.call_later(self._reception.hello_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except FrameError as error:
            self._cut_off(error)
            return
        if not self._left and len(messages) <= _SLICE:
            for message in messages:
                self._take(message)
            return
        waited = bool(self._left)
        self._left += messages
        if not waited:
            self._read_or_not()
            self._take_slice()

    def _take_slice(self) -> None:
        """Handles some of what has come; the rest in the next turns of the loop.

        A thousand calls come in one piece. Handled in one go, they would reach the workers, and be answered, when the
        last of them is done: engine, workers and callers would take turns instead of working side by side.
        """
        left = self._left
        try:
            for _ in range(min(_SLICE, len(left))):
                self._take(left.popleft())
        finally:
            if left:
                self._loop.call_soon(self._take_slice)
            else:
                self._read_or_not()

    def pause_writing(self) -> None:
        self._full = True
        self._read_or_not()

    def resume_writing(self) -> None:
        self._full = False
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Reads more, unless the peer does not read or has sent more than could be handled yet."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._full or self._left:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            while self._left:  # it was sent, and counts
                self._take(self._left.popleft())
        finally:
            self._take, self._transport = _ignore, None
            self._be_patient()
            self._reception.leave(self)
            if self._joined:
                self._engine.left(self)

    # ── frames ────────────────────────────────────────────────────────────────────────────────────

    def _greet(self, message: Frame) -> None:
        """The first frame must be HELLO."""
        self._be_patient()
        try:
            hello = messages.decode(message)
            if message.kind != kinds.HELLO:
                raise BadHead(message.kind, "the first frame must be HELLO")
        except BadHead as error:
            self._refuse(Refuse(code="bad_hello", what="this is no greeting", why=str(error)))
            return
        answer = self._reception.admit(self, hello)
        if isinstance(answer, Refuse):
            self._refuse(answer)
            return
        self._joined, self._take = True, partial(self._engine.received, self)
        self.send(answer.encode())

    def _refuse(self, refusal: Refuse) -> None:
        logger.info("refused a connection: %s %s", refusal.what, refusal.why)
        self.send(refusal.encode())
        self.close()

    def _cut_off(self, error: FrameError) -> None:
        logger.warning("a %s sent no frame of ours: %s", self.role or "stranger", error)
        told = Error(code="bad_frame", what=f"that is no frame of this protocol: {error}")
        self.send(told.encode(flags=kinds.END | kinds.FAILED))
        # Not self.close: the engine has to hear that the link is gone.
        if self._transport is not None:
            self._transport.close()

    def _too_slow(self) -> None:
        self._refuse(Refuse(code="bad_hello", what=f"no greeting within {self._reception.hello_s:g} s"))

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def _ignore(_message: Frame) -> None:
    """Frames that came in one piece with the one that ended the connection."""


def _peer_uid(sock: Any) -> int | None:
    """Who is at the other end; None where the system does not tell."""
    if hasattr(socket, "SO_PEERCRED"):
        found: bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", found)[1])
    if sys.platform == "darwin":
        # struct xucred: version, uid, …; the option is LOCAL_PEERCRED of level SOL_LOCAL.
        return int(struct.unpack_from("2I", sock.getsockopt(0, 1, 76))[1])
    return None
