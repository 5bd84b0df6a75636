"""One request for a program: sent as it comes, answered as it answers."""

from __future__ import annotations

import asyncio
import contextlib
from types import CodeType
from typing import Final

from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker.call import Finish
from runpod_flash.worker.http import answers
from runpod_flash.worker.http.answers import Answer
from runpod_flash.worker.http.body import BrokenOff
from runpod_flash.worker.http.exchange import Exchanges
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.relayed.child import Child
from runpod_flash.worker.relayed.upstream import (
    Connection,
    Gone,
    Headers,
    ResponseHead,
    Unanswered,
    Upstream,
    request_head,
)
from runpod_flash.worker.serving import WORKER_ID, Served

_AT_ONCE: Final = 64 * 1024
"""Bytes of an answer that is sent in one frame, if it says its length."""
_ENDING_S: Final = 0.2
"""How long it takes at most until the end of a program is known whose connections are closed."""
_PIECE: Final = 64 * 1024
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_OF_THE_CONNECTION: Final = frozenset({"connection", "transfer-encoding", "keep-alive", "upgrade", "expect"})


class Relayed(Served):
    """A request that the program answers."""

    def __init__(
        self, call: str, head: Head, message: Frame, exchanges: Exchanges, child: Child, upstream: Upstream, worker: str
    ) -> None:
        super().__init__(call, head, message, exchanges)
        self._child = child
        self._upstream = upstream
        self._target: str = head.said.get("target") or "/"
        self._upgrade: str = head.said.get("upgrade", "")
        self._worker = worker

    async def serve(self) -> Finish:
        """Has the program answer."""
        try:
            return await self._serve()
        except Gone:
            if not self.outflow.begun and await self._child.ends_within(_ENDING_S):
                # Its worker is about to go with it, and then the engine has others answer what may be asked again.
                await asyncio.Event().wait()
            raise

    async def _serve(self) -> Finish:
        """Asks it. A connection that turns out to be closed already is replaced, once."""
        if self._upgrade:
            return await self._change_protocol()
        whole = self.request.body.take_all()
        connection = await self._upstream.connect()
        while True:
            again = connection.used and (whole is not None) and self.request.method in _REPEATABLE
            try:
                return await self._ask(connection, whole)
            except Unanswered:
                if not again or self.outflow.begun:
                    raise
            finally:
                if not connection.idle:
                    connection.close()
            connection = await self._upstream.connect(fresh=True)

    def failed(self, error: BaseException, step: str, caller: CodeType) -> Finish:
        if isinstance(error, Unanswered) and not self.outflow.begun:
            return self._at_once(answers.detail(502, str(error), [(WORKER_ID, self._worker)], id=self.call))
        return super().failed(error, step, caller)

    # ── a request and its answer ──────────────────────────────────────────────────────────────────

    async def _ask(self, connection: Connection, whole: bytes | None) -> Finish:
        sending = asyncio.ensure_future(self._send(connection, whole))
        try:
            head = await connection.head(self.request.method)
            finish = await self._pass_back(connection, head)
            done = sending.done() and sending.exception() is None
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending
        if head.keep_alive and done:
            self._upstream.keep(connection)
        return finish

    async def _send(self, connection: Connection, whole: bytes | None) -> None:
        headers = self._headers()
        has_length = any(name == "content-length" for name, _value in headers)
        writer = connection.writer
        if whole is not None:
            if whole and not has_length:
                headers.append(("content-length", str(len(whole))))
            writer.write(request_head(self.request.method, self._target, headers) + whole)
            await writer.drain()
            return
        if not has_length:
            headers.append(("transfer-encoding", "chunked"))
        writer.write(request_head(self.request.method, self._target, headers))
        async for piece in self.request.body.pieces():
            writer.write(piece if has_length else b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        if not has_length:
            writer.write(b"0\r\n\r\n")

    async def _pass_back(self, connection: Connection, head: ResponseHead) -> Finish:
        headers = self._named(head.headers)
        body = connection.body(head)
        if 0 <= head.length <= _AT_ONCE:
            return self._at_once(Answer(head.status, headers, b"".join([piece async for piece in body])))
        self._exchanges.runner.untime(self)
        self.outflow.begin(head.status, headers)
        async for piece in body:
            await self.outflow.write(piece)
        return self._last()

    # ── another protocol ──────────────────────────────────────────────────────────────────────────

    async def _change_protocol(self) -> Finish:
        connection = await self._upstream.connect(fresh=True)
        try:
            headers = [*self._headers(), ("connection", "Upgrade"), ("upgrade", self._upgrade)]
            connection.writer.write(request_head("GET", self._target, headers))
            head = await connection.head("GET")
            if head.status != 101:
                return await self._refused(connection, head)
            self._exchanges.runner.untime(self)
            self.outflow.begin(101, self._named(head.headers))
            return await self._converse(connection)
        finally:
            connection.close()

    async def _refused(self, connection: Connection, head: ResponseHead) -> Finish:
        body = b""
        async for piece in connection.body(head):
            body += piece
            if len(body) > kinds.WINDOW:
                raise Unanswered(f"the program refused another protocol with more than {kinds.WINDOW} bytes")
        return self._at_once(Answer(head.status, self._named(head.headers), body))

    async def _converse(self, connection: Connection) -> Finish:
        upwards = asyncio.ensure_future(self._upwards(connection))
        try:
            while piece := await connection.reader.read(_PIECE):
                await self.outflow.write(piece)
        except (OSError, BrokenOff):
            return self._last(failed=True)
        finally:
            upwards.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, BrokenOff):
                await upwards
        return self._last()

    async def _upwards(self, connection: Connection) -> None:
        async for piece in self.request.body.pieces():
            connection.writer.write(piece)
            await connection.writer.drain()

    # ── heads ─────────────────────────────────────────────────────────────────────────────────────

    def _headers(self) -> Headers:
        return [(name, value) for name, value in self.request.headers if name not in _OF_THE_CONNECTION]

    def _named(self, headers: Headers) -> Headers:
        return [*headers, (WORKER_ID, self._worker)]
