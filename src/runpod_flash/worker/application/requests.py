"""One HTTP request for an application: its scope, and the events of ASGI both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from runpod_flash.wire.frame import Frame
from runpod_flash.worker.application.lifespan import ASGI, Lifespan
from runpod_flash.worker.application.loading import Message, Scope
from runpod_flash.worker.call import Finish
from runpod_flash.worker.http import asgi
from runpod_flash.worker.http.body import BrokenOff
from runpod_flash.worker.http.exchange import Exchanges
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.serving import WORKER_ID, Served

_CLIENT: Final = ("127.0.0.1", 0)
"""The gateway listens here alone; nobody needs the number of the client's port."""


class ClientGone(OSError):
    """Whoever asked is gone, and nothing can be sent to him: ASGI wants this to be an OSError."""


class AppRequest(Served):
    """A request that an application answers."""

    def __init__(
        self, call: str, head: Head, message: Frame, exchanges: Exchanges, lifespan: Lifespan, worker: str
    ) -> None:
        super().__init__(call, head, message, exchanges)
        self._lifespan = lifespan
        self._target: str = head.said.get("target", "")  # as it came
        self._worker = worker
        self._gone = asyncio.Event()
        self._pieces: AsyncIterator[bytes] | None = self.request.body.pieces()
        self._start: Message | None = None

    async def serve(self) -> Finish:
        """Has the application answer; it may go on after that."""
        await self._lifespan.application(self._scope(), self._receive, self._send)
        if not self._gone.is_set():
            raise RuntimeError("the application returned before its answer was whole")
        return self._last(failed=True)  # of an answer that is complete the last frame was sent, and this one is not

    def disconnect(self) -> None:
        """The client is gone. The application is told so when it asks, and goes on as it likes."""
        self.request.body.feed(b"", last=True, broken=True)
        self.outflow.close()
        self._gone.set()

    # ── the events of ASGI ────────────────────────────────────────────────────────────────────────

    def _scope(self) -> Scope:
        scope = asgi.scope_of(self.request)
        del scope["path_params"]
        if self._target:
            prefix = scope["root_path"]
            scope["raw_path"] = (quote(prefix) + self._target.partition("?")[0]).encode()
        return {**scope, "asgi": ASGI, "client": _CLIENT, "state": self._lifespan.state.copy()}

    async def _receive(self) -> Message:
        if (whole := self.request.body.take_all()) is not None:
            self._pieces = None
            return {"type": "http.request", "body": whole, "more_body": False}
        if self._pieces is not None:
            try:
                async for piece in self._pieces:
                    return {"type": "http.request", "body": piece, "more_body": True}
            except BrokenOff:
                self._pieces = None
                return _DISCONNECT
            self._pieces = None
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return _DISCONNECT

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._start is not None:
                raise RuntimeError("the application has begun its answer twice")
            self._start = message
        elif kind == "http.response.body":
            await self._body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"the application sent {kind!r}, which has no place in an answer over HTTP")

    async def _body(self, body: bytes, *, more: bool) -> None:
        start = self._start
        if start is None:
            raise RuntimeError("the application sent a body before the start of its answer")
        if self._gone.is_set():
            raise ClientGone("the client is gone")
        self._exchanges.runner.untime(self)
        try:
            headers = [*asgi.headers_of(start.get("headers", ())), (WORKER_ID, self._worker)]
            await self._take(int(start["status"]), headers, body, more)
        except BrokenOff:
            raise ClientGone("the client is gone") from None
        if not more:
            self._gone.set()  # there is nothing to come for an application that listens on


_DISCONNECT: Final[Message] = {"type": "http.disconnect"}
