"""A worker whose requests a program answers, which it starts, watches and ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

from runpod_flash.wire.frame import Frame
from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.http.heads import Head
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.relayed.child import Child
from runpod_flash.worker.relayed.health import Health, interval
from runpod_flash.worker.relayed.requests import Relayed
from runpod_flash.worker.relayed.upstream import Upstream
from runpod_flash.worker.serving import ServingServer

_GRACE_S: Final = 2.0
"""What a program that is not well has to end in, once it is asked to."""


class ProgramServer(ServingServer):
    """Gives a program what the engine sends."""

    def __init__(
        self, name: str, control: socket.socket, output: LogPipe, born: float, command: Sequence[str], folder: str
    ) -> None:
        super().__init__(name, control, output, born)
        self._child = Child(command, folder)
        self._upstream = Upstream(self._child.port)
        self._watching: list[asyncio.Task[None]] = []

    async def _start(self) -> None:
        every_s = interval(os.environ)  # before the program runs, which would be left behind
        await self._child.start()
        await self._child.ready()
        self._watching = [asyncio.ensure_future(self._watch())]
        if every_s and self._child.answers_health:
            health = Health(self._child.health, lambda: bool(self._served.open), every_s)
            self._watching.append(asyncio.ensure_future(self._watch_health(health)))

    async def _watch(self) -> None:
        """A program that ends by itself takes its worker along, which is replaced."""
        self._take_along(f"has ended: {await self._child.ended()}")

    async def _watch_health(self, health: Health) -> None:
        """So does one that is not well any more."""
        told = await health.fails()
        self._watching[0].cancel()  # it ends now, and not by itself
        await self._child.end(_GRACE_S)
        self._take_along(
            f"was not well: GET {self._child.asked_at} at port {self._child.health_port} (PORT_HEALTH) gave {told}"
        )

    def _take_along(self, why: str) -> None:
        if not self._left.done():
            self._left.set_exception(CannotStart(f"{self._child.title} {why}"))

    async def _stop(self) -> None:
        for one in self._watching:
            one.cancel()
        self._upstream.close()
        await self._child.stop()

    def _made(self, call: str, head: Head, message: Frame) -> Relayed:
        return Relayed(call, head, message, self._served, self._child, self._upstream, self._name)
