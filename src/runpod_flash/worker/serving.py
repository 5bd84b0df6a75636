"""What workers have in common that serve an application or a program, instead of functions: many requests at once.

One is ready, and the engine is told so, when what it serves has started. Nobody is given a request before that, and
one that cannot start is a worker that cannot: what it said last is the answer that waiting requests get.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from abc import ABC, abstractmethod
from typing import Final

from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker import results
from runpod_flash.worker.call import Finish
from runpod_flash.worker.context import CURRENT, JobContext
from runpod_flash.worker.http.exchange import Exchange, Exchanges
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.link import Key
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.server import Server

WORKER_ID: Final = "x-runpod-worker-id"
"""The header by which an answer says whose it is, and a request whose it wants."""
_STEP: Final = "serve"

_now = time.monotonic_ns


class Served(Exchange):
    """A request, and how it is answered."""

    @abstractmethod
    async def serve(self) -> Finish:
        """Has it answered; what is returned is sent, unless the last frame of the answer was sent already."""

    def feed(self, message: Frame) -> None:
        """More of what the client sends."""
        self._exchanges.on_data(message)

    def disconnect(self) -> None:
        """The client is gone."""
        self.ending = self.ending or results.cancelled("the client is gone")
        if self.task is not None:
            self.task.cancel()


class ServingServer(Server, ABC):
    """Takes requests from the engine for whatever is served."""

    def __init__(self, name: str, control: socket.socket, output: LogPipe, born: float) -> None:
        super().__init__(name, control, output, born, threads=1)
        self.frames = {**self.frames, kinds.HTTP_REQ: self._on_http, kinds.DATA: self._on_data}
        self._exchanges = self._served = Exchanges(self, self._link.send)

    @abstractmethod
    def _made(self, call: str, head: Head, message: Frame) -> Served:
        """A request that has come."""

    @abstractmethod
    async def _start(self) -> None:
        """Returns when requests can be answered. CannotStart."""

    @abstractmethod
    async def _stop(self) -> None:
        """Nothing more is to be answered. It has as long as its worker."""

    def serve(self) -> None:
        """Until EXIT or SIGTERM, or until a drained worker holds nothing any more."""
        asyncio.set_event_loop(self._loop)  # code that is loaded may ask for it
        self._loop.run_until_complete(self._start())
        super().serve()

    async def _serve(self) -> None:
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        await super()._serve()
        await self._stop()

    # ── requests ──────────────────────────────────────────────────────────────────────────────────

    def _on_http(self, message: Frame) -> None:
        served = self._made(*self._served.heads.read(message.head), message)
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
            finish = await served.serve()
        except BaseException as error:  # noqa: BLE001 - sys.exit() of user code ends a request, no worker
            finish = served.failed(error, _STEP, ServingServer._answer.__code__)
        self._deadlines.drop(served)
        self.answer(served, finish)
        self._served.open.pop(served.sid, None)
        self._at_work.discard(served)
        self._leave_if_drained()

    def _on_data(self, message: Frame) -> None:
        served = self._served.open.get(message.sid)
        if isinstance(served, Served):
            served.feed(message)

    def cancel_running(self, key: Key, cause: str) -> None:
        """The client is gone."""
        served = self._calls.get(key[0])
        if isinstance(served, Served):
            served.disconnect()

    def stream_ended(self) -> None:
        """Nobody waits for any request: what is answered nevertheless is not sent."""
        self._calls.clear()
        for served in list(self._served.open.values()):
            assert isinstance(served, Served)
            served.disconnect()
        self._served.open.clear()
