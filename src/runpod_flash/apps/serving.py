"""The process that serves an app for `flash run`: started ahead of its turn, told when to load, to serve and to stop.

    python -m runpod_flash.apps.serving CONTROL LISTENER LOOPBACK PROVISION FOLDER KIND FILE NAME

Both numbers are descriptors. Over the first it is told words, a line each: `load`, `serve`, `stop SECONDS`. It answers
with objects of JSON: `loaded`, `failed`, `serving`, `routes`. When that connection ends, so does the process: it never
outlives who started it. All that is slow to import is imported before `load`, so that a change of the user's is served
soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from runpod_flash.apps import bundled, loading, stream
from runpod_flash.apps.front import Front, is_news
from runpod_flash.apps.target import Kind, Target
from runpod_flash.apps.unified import UnifiedApp
from runpod_flash.client import environment, output, transport
from runpod_flash.client.function import RemoteFunction
from runpod_flash.errors import FlashError
from runpod_flash.model.endpoint import endpoint_id

_PATIENCE_S = 10
"""For requests under way when another version takes over, unless told otherwise."""


_LINGER_S = 0.05
"""Between taking no more connections and closing those without a request: who has just connected is about to ask."""


class Control:
    """The line to who started this process."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._read = b""
        self._writer: asyncio.StreamWriter | None = None

    def say(self, said: str, **facts: Any) -> None:
        """One answer. A parent that is gone is noticed where it is listened to."""
        text = json.dumps({"said": said, **facts}).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._socket.sendall(text) if self._writer is None else self._writer.write(text)

    def word(self) -> str:
        """The next word; "" if nobody is there any more. Blocks."""
        while b"\n" not in self._read:
            data = self._socket.recv(4096)
            if not data:
                return ""
            self._read += data
        word, _, self._read = self._read.partition(b"\n")
        return word.decode()

    async def words(self) -> AsyncIterator[str]:
        """All that come from now on, for a program with a loop; the last is "" when nobody is there any more."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        try:
            while line := await reader.readline():
                yield line.decode().strip()
            yield ""
        finally:
            self._writer.close()


class _Server(uvicorn.Server):
    """Says when it serves, and is told when to stop: signals are for its parent, which tells it."""

    def __init__(self, config: uvicorn.Config, control: Control, begun: Begun) -> None:
        super().__init__(config)
        self._control = control
        self._begun = begun

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop, 1)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._control.say("serving")
        self._telling = asyncio.create_task(self._tell(), name="telling the routes")
        self._listening = asyncio.create_task(self._listen(), name="words of the parent")
        self._provisioning = asyncio.create_task(self._begun.begin(), name="declaring endpoints")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._provisioning.cancel()
        self._telling.cancel()
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)
        self._listening.cancel()
        await asyncio.gather(self._provisioning, self._listening, self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        """The routes; of examples that are not loaded, by reading their sources, for which nobody has to wait."""
        found = await asyncio.to_thread(loading.routes, self._begun.app)
        self._control.say("routes", routes=[asdict(route) for route in found])

    async def _listen(self) -> None:
        async for said in self._control.words():
            word, _, seconds = said.partition(" ")
            if word in ("stop", ""):
                self._stop(int(seconds or 0))
                return

    def _stop(self, seconds: int) -> None:
        self.config.timeout_graceful_shutdown = seconds
        self.should_exit = True


class Begun:
    """The project's endpoints: which load-balanced ones there are, and, if that is wanted, all declared at once."""

    def __init__(self, target: Target, app: ASGIApp, *, provision: bool) -> None:
        self._target = target
        self.app = app
        self._provision = provision
        self._declared: set[int] = set()

    async def begin(self) -> None:
        """Declares what is to be there before the first call."""
        if not self._provision:
            return
        try:
            for function in await self._functions():
                await self._declare(function)
        except FlashError as error:
            stream.write(str(error))
        else:
            stream.write(stream.line("auto-provision", end="ready", rest=f"{len(self._declared)} functions"))

    async def load_balanced(self) -> dict[str, str]:
        """The load-balanced endpoints by name, declared, with their ids."""
        found = {}
        for function in await self._functions():
            resource = function.__remote_config__.resource
            if not resource.is_queue:
                await self._declare(function)
                found[resource.name] = endpoint_id(*transport.current().app, resource.name)
        return found

    async def _functions(self) -> list[RemoteFunction[Any, Any, Any]]:
        if isinstance(self.app, UnifiedApp):
            await self.app.load_all()
        return list(loading.remote_functions(self._target.folder))

    async def _declare(self, function: RemoteFunction[Any, Any, Any]) -> None:
        if id(function) not in self._declared:
            await function.caller().declare()
            self._declared.add(id(function))


def main(words: list[str]) -> int:
    """Waits for its turn, loads, serves; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us; the parent says when to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held back by the parent until here
    control, listener = Control(int(words[0])), socket.socket(fileno=int(words[1]))
    loopback, provision = words[2] == "1", words[3] == "1"
    target = Target(Path(words[4]), Kind(words[5]), words[6], words[7])
    bundled.use()
    if control.word() != "load":
        return 0
    environment.stand_in_for(target.folder)
    environment.load_dotenv()
    output.present(stream.printed, stream.told)
    try:
        app = loading.load(target)
    except FlashError as error:
        control.say("failed", error=str(error))
        return 0
    control.say("loaded", title=loading.title(app, target), docs=_docs(app))
    if control.word() != "serve":
        return 0
    return _serve(app, Begun(target, app, provision=provision), control, listener, loopback=loopback)


def _serve(app: ASGIApp, begun: Begun, control: Control, listener: socket.socket, *, loopback: bool) -> int:
    front = Front(app, begun.load_balanced, loopback=loopback)
    config = uvicorn.Config(
        front,
        access_log=False,
        log_config=None,
        lifespan="on" if hasattr(app, "router") else "auto",
        timeout_graceful_shutdown=_PATIENCE_S,
    )
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.WARNING)
    logger.addFilter(is_news)
    server = _Server(config, control, begun)
    with contextlib.suppress(SystemExit):
        server.run(sockets=[listener])
    if not server.started:
        failed = front.failure or FlashError("the app did not start", why="its server ended without a word")
        control.say("failed", error=str(failed))
    return 0


def _docs(app: ASGIApp) -> str:
    """Where its documentation stands; "" if it has none."""
    return "/docs" if isinstance(app, UnifiedApp) else str(getattr(app, "docs_url", "") or "")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main(sys.argv[1:]))
