"""A worker whose requests a program answers, which it starts, watches and ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from runpod_flash.wire.frame import Frame
from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.relayed.child import Child
from runpod_flash.worker.relayed.requests import Relayed
from runpod_flash.worker.relayed.upstream import Upstream
from runpod_flash.worker.serving import ServingServer


class ProgramServer(ServingServer):
    """Gives a program what the engine sends."""

    def __init__(
        self, name: str, control: socket.socket, output: LogPipe, born: float, command: Sequence[str], folder: str
    ) -> None:
        super().__init__(name, control, output, born)
        self._child = Child(command, folder)
        self._upstream = Upstream(self._child.port)
        self._watching: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        await self._child.start()
        await self._child.ready()
        self._watching = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """A program that ends by itself takes its worker along, which is replaced."""
        how = await self._child.ended()
        if not self._left.done():
            self._left.set_exception(CannotStart(f"{self._child.title} has ended: {how}"))

    async def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._upstream.close()
        await self._child.stop()

    def _made(self, call: str, head: Head, message: Frame) -> Relayed:
        return Relayed(call, head, message, self._served, self._child, self._upstream, self._name)
