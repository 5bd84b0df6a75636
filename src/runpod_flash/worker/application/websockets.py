"""One websocket for an application: whole messages, as ASGI wants them. Frames and pings are the gateway's."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker.application.lifespan import Lifespan
from runpod_flash.worker.application.loading import Message, Scope
from runpod_flash.worker.application.requests import AppRequest, ClientGone
from runpod_flash.worker.call import Finish
from runpod_flash.worker.http.answers import Answer
from runpod_flash.worker.http.asgi import headers_of
from runpod_flash.worker.http.body import BrokenOff
from runpod_flash.worker.http.exchange import Exchanges
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.link import decode_head
from runpod_flash.worker.serving import WORKER_ID

_NORMAL: Final = 1000
_ABNORMAL: Final = 1006
_FORBIDDEN: Final = 403
_FAREWELL_S: Final = 30.0
"""How long an application may go on after its client has gone."""
_PROTOCOL: Final = "sec-websocket-protocol"


class WebSocket(AppRequest):
    """A websocket, from its handshake to its end."""

    def __init__(
        self, call: str, head: Head, message: Frame, exchanges: Exchanges, lifespan: Lifespan, worker: str
    ) -> None:
        super().__init__(call, head, message, exchanges, lifespan, worker)
        self._messages: deque[tuple[str, bytes, int]] = deque()  # kind, message, bytes of it that are yet to be allowed
        self._half: list[bytes] = []  # of a message whose rest is to come
        self._arrived = asyncio.Event()
        self._turn = asyncio.Lock()  # of two tasks that send, one message is whole before the next begins
        self._asked = False  # it has been told of the handshake
        self._accepted = False
        self._over = False  # the application has closed it, or refused the handshake
        self._close: Message | None = None  # how it ended
        self._farewell: asyncio.TimerHandle | None = None  # ends an application that does not notice
        self._denial: tuple[int, list[tuple[str, str]], bytearray] | None = None

    async def serve(self) -> Finish:
        """Has the application converse; when it returns, the websocket ends."""
        try:
            await self._lifespan.application(self._scope(), self._receive, self._send)
        except Exception:
            if self._close is None:
                raise
            return self._last()  # what it raises when its client has gone is no news
        finally:
            if self._farewell is not None:
                self._farewell.cancel()
        if not self._accepted and not self._over and self._close is None:
            raise RuntimeError("the application returned without accepting the websocket, or refusing it")
        return self._last()

    # ── what the gateway says ─────────────────────────────────────────────────────────────────────

    def feed(self, message: Frame) -> None:
        """A piece of a message, or the close."""
        head = decode_head(message.head)
        kind, body = head.get("op", ""), message.parts[0] if message.parts else b""
        if kind == "close":
            self.disconnect(head.get("code", _ABNORMAL), head.get("reason", ""))
            return
        self._half.append(body)
        if head.get("more"):
            self.request.body.allow(len(body))  # or a message longer than the window would never be whole
            return
        whole, self._half = b"".join(self._half), []
        self._messages.append((kind, whole, len(body)))
        self._arrived.set()

    def disconnect(self, code: int = _ABNORMAL, reason: str = "") -> None:
        """The client has closed, or is gone."""
        if self._close is None:
            self._close = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._arrived.set()
            self.outflow.close()
            if self.task is not None:
                self._farewell = self.task.get_loop().call_later(_FAREWELL_S, self.task.cancel)

    # ── the events of ASGI ────────────────────────────────────────────────────────────────────────

    def _scope(self) -> Scope:
        scope = super()._scope()
        del scope["method"]
        offered = ",".join(self.request.header(_PROTOCOL))
        return {
            **scope,
            "type": "websocket",
            "scheme": "wss" if scope["scheme"] in {"https", "wss"} else "ws",
            "subprotocols": [one.strip() for one in offered.split(",") if one.strip()],
            "extensions": {"websocket.http.response": {}},
        }

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._close is not None:
                return self._close
            self._arrived.clear()
            await self._arrived.wait()
        kind, data, owed = self._messages.popleft()
        self.request.body.allow(owed)
        if kind == "text":
            return {"type": "websocket.receive", "text": data.decode()}
        return {"type": "websocket.receive", "bytes": data}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._close is not None or self._over:
            raise ClientGone("the websocket is closed")
        if self._accepted:
            await self._converse(kind, message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._deny(_FORBIDDEN, [], b"")
        elif kind == "websocket.http.response.start":
            self._denial = int(message["status"]), headers_of(message.get("headers", ())), bytearray()
        elif kind == "websocket.http.response.body" and self._denial is not None:
            status, headers, body = self._denial
            body += message.get("body", b"")
            if not message.get("more_body", False):
                self._deny(status, headers, bytes(body))
        else:
            raise RuntimeError(f"the application sent {kind!r} before it accepted the websocket")

    def _accept(self, message: Message) -> None:
        self._exchanges.runner.untime(self)
        self._accepted = True
        headers = headers_of(message.get("headers", ()))
        if chosen := message.get("subprotocol"):
            headers.append((_PROTOCOL, chosen))
        headers.append((WORKER_ID, self._worker))
        self.outflow.begin(101, headers)

    def _deny(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if len(body) > kinds.WINDOW:
            raise RuntimeError(f"the application refused a websocket with more than {kinds.WINDOW} bytes")
        self._over = True
        self._close = {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""}
        self._exchanges.runner.answer(self, self._at_once(Answer(status, headers, body)))

    async def _converse(self, kind: str, message: Message) -> None:
        if kind == "websocket.close":
            code, reason = message.get("code", _NORMAL), message.get("reason") or ""
            async with self._turn:
                self._over = True
                self._close = {"type": "websocket.disconnect", "code": code, "reason": reason}
                self._arrived.set()
                self.outflow.say_close(code, reason)
            return
        if kind != "websocket.send":
            raise RuntimeError(f"the application sent {kind!r}, which has no place in a websocket")
        text, data = message.get("text"), message.get("bytes")
        if text is not None:
            op, data = "text", text.encode()
        elif data is not None:
            op = "binary"
        else:
            raise RuntimeError("the application sent a message that has neither text nor bytes")
        try:
            async with self._turn:
                await self.outflow.say(op, data)
        except BrokenOff:
            raise ClientGone("the client is gone") from None
