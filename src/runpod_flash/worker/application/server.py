"""A worker that serves an application, on the main thread's event loop."""

from __future__ import annotations

import socket

from runpod_flash.wire.frame import Frame
from runpod_flash.worker.application.lifespan import Lifespan
from runpod_flash.worker.application.loading import load
from runpod_flash.worker.application.requests import AppRequest
from runpod_flash.worker.application.websockets import WebSocket
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.serving import ServingServer


class ApplicationServer(ServingServer):
    """Gives an application what the engine sends."""

    def __init__(
        self, name: str, control: socket.socket, output: LogPipe, born: float, target: str, folder: str
    ) -> None:
        super().__init__(name, control, output, born)
        self._target, self._folder = target, folder

    async def _start(self) -> None:
        self._lifespan = Lifespan(load(self._target, self._folder), self._target)
        await self._lifespan.start()

    async def _stop(self) -> None:
        await self._lifespan.stop()

    def _made(self, call: str, head: Head, message: Frame) -> AppRequest:
        kind = WebSocket if head.said.get("upgrade") else AppRequest
        return kind(call, head, message, self._served, self._lifespan, self._name)
