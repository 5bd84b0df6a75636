"""A worker that serves an application: many requests at once, on the main thread's event loop.

It is ready, and told so to the engine, when the application has started. Nobody is given a request before that, and one
that cannot start is a worker that cannot: what it said last is the answer that waiting requests get.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from typing import Any, Final

from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker.application.lifespan import Lifespan
from runpod_flash.worker.application.loading import Asgi, load
from runpod_flash.worker.application.requests import Served
from runpod_flash.worker.application.websockets import WebSocket
from runpod_flash.worker.context import CURRENT, JobContext
from runpod_flash.worker.http.exchange import Exchanges
from runpod_flash.worker.link import Key
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.server import Server

_STEP: Final = "application"

_now = time.monotonic_ns


class ApplicationServer(Server):
    """Gives an application what the engine sends."""

    def __init__(
        self, name: str, control: socket.socket, output: LogPipe, born: float, target: str, folder: str
    ) -> None:
        super().__init__(name, control, output, born, threads=1)
        self.frames = {**self.frames, kinds.HTTP_REQ: self._on_http, kinds.DATA: self._on_data}
        self._target, self._folder = target, folder
        self._served = Exchanges(self, self._link.send)
        self._exchanges = self._served

    def serve(self) -> None:
        """Starts the application and serves it: until EXIT or SIGTERM, or until a drained worker holds nothing."""
        # Before anything is loaded: a module may keep the loop, or ask for it.
        asyncio.set_event_loop(self._loop)
        self._application: Asgi = load(self._target, self._folder)
        self._lifespan = Lifespan(self._application, self._target)
        self._loop.run_until_complete(self._lifespan.start())
        super().serve()

    async def _serve(self) -> None:
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        await super()._serve()
        await self._lifespan.stop()

    # ── requests ──────────────────────────────────────────────────────────────────────────────────

    def _on_http(self, message: Frame) -> None:
        call, head = self._served.heads.read(message.head)
        served = (WebSocket if head.said.get("upgrade") else Served)(call, head, message, self._served)
        self._served.open[message.sid] = served
        self._calls[served.call] = served
        served.task = self._loop.create_task(self._answer(served))
        self._at_work.add(served)

    async def _answer(self, served: Served) -> None:
        CURRENT.set(JobContext(served.call, 0, served.name, self._name))
        served.running = True
        served.began = served.loaded = _now()
        self._deadlines.set(served)
        try:
            finish = await served.serve(self._application, self._lifespan.state)
        except BaseException as error:  # noqa: BLE001 - sys.exit() of user code ends a request, no worker
            finish = served.failed(error, _STEP, ApplicationServer._answer.__code__)
        self._deadlines.drop(served)
        self.answer(served, finish)
        self._served.open.pop(served.sid, None)
        self._at_work.discard(served)
        self._leave_if_drained()

    def _on_data(self, message: Frame) -> None:
        served = self._served.open.get(message.sid)
        if isinstance(served, WebSocket):
            served.feed(message)
        else:
            self._served.on_data(message)

    def cancel_running(self, key: Key, cause: str) -> None:
        """The client is gone. The application hears it as ASGI says it, and is not broken into."""
        served: Any = self._calls.get(key[0])
        if served is not None:
            served.disconnect()

    def stream_ended(self) -> None:
        """Nobody waits for any request: what is answered nevertheless is not sent."""
        self._calls.clear()
        for served in list(self._served.open.values()):
            assert isinstance(served, Served)
            served.disconnect()
        self._served.open.clear()
