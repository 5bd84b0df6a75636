"""A real engine and a real gateway on a real port, with workers that are a few lines of this program.

Everything between the socket of a client and the frames of a worker is what it always is. A worker answers each
request as the function of that name in `Stage.functions` says.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from runpod_flash.engine.engine import Engine
from runpod_flash.engine.store.sqlite import open_store
from runpod_flash.gateway import gateway as gateways
from runpod_flash.gateway.gateway import Gateway
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec, Program, RuntimeSpec
from runpod_flash.providers.base import HostProcess
from runpod_flash.settings import load
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame, FrameReader
from runpod_flash.wire.messages import Data, FunctionSpec, HttpReq, HttpRes, Route

TOKEN = "flash-token-of-these-tests"
RUNTIME = RuntimeSpec("r1", "1", "/flash", "/cloudpickle.py", "/msgspec")
T = TypeVar("T")


class Asked:
    """A request as a worker gets it, and the ways to answer it."""

    def __init__(self, worker: Worker, head: HttpReq, body: bytes, sid: int) -> None:
        self.head = head
        self.worker = worker
        self.cancelled = asyncio.Event()
        self.window = kinds.WINDOW
        self._sid = sid
        self._more = asyncio.Queue[tuple[bytes, bool]]()
        self._credit = asyncio.Event()
        self._more.put_nowait((body, not head.more))

    async def read(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether it is the last."""
        piece, last = await self._more.get()
        self.worker.says(messages.Credit(bytes=len(piece)), sid=self._sid)
        return piece, last

    async def body(self) -> bytes:
        pieces, last = [], False
        while not last:
            piece, last = await self.read()
            pieces.append(piece)
        return b"".join(pieces)

    def answer(self, body: bytes = b"", *, status: int = 200, headers: list[tuple[str, str]] | None = None) -> None:
        head = HttpRes(status=status, headers=headers or [("content-type", "text/plain")])
        self.worker.says(head, body, sid=self._sid, flags=kinds.END)

    def begin(self, *, status: int = 200, headers: list[tuple[str, str]] | None = None) -> None:
        head = HttpRes(status=status, headers=headers or [("content-type", "text/plain")], more=True)
        self.worker.says(head, sid=self._sid)

    async def data(self, body: bytes) -> None:
        """A piece of the answer, when there is room for it."""
        while self.window < len(body):
            self._credit.clear()
            await self._credit.wait()
        self.window -= len(body)
        self.worker.says(Data(), body, sid=self._sid)

    def end(self, *, broken: bool = False) -> None:
        self.worker.says(Data(), sid=self._sid, flags=kinds.END | (kinds.FAILED if broken else 0))

    def hears(self, message: Frame, head: Any) -> None:
        if isinstance(head, Data):
            self._more.put_nowait((message.parts[0], bool(message.flags & kinds.END)))
        elif isinstance(head, messages.Credit):
            self.window += head.bytes
            self._credit.set()


Function = Callable[[Asked], Coroutine[Any, Any, None]]


class Wire:
    """One link as the engine sees it."""

    def __init__(self, stage: Stage, role: str, hears: Callable[[Frame, Any], None]) -> None:
        self.role, self.pid = role, os.getpid()
        self.state: Any = None
        self.closed = False
        self._stage = stage
        self._hears = hears
        self._reader = FrameReader()

    def send(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            self._stage.loop.call_soon(self._hears, message, messages.decode(message))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stage.loop.call_soon(self._stage.engine.left, self)

    def says(self, head: messages.Head, body: bytes | None = None, *, sid: int = 0, flags: int = 0) -> None:
        if not self.closed:
            for message in FrameReader().feed(head.encode(() if body is None else (body,), sid=sid, flags=flags)):
                self._stage.engine.received(self, message)


class Worker:
    """Answers requests, many at once."""

    def __init__(self, stage: Stage, head: messages.Launch) -> None:
        self.id = head.worker
        self.asked: dict[int, Asked] = {}
        self._stage = stage
        self.wire = Wire(stage, "worker", self._hears)
        stage.engine.links.worker_joined(self.wire, hello("worker", worker=head.worker, key=head.key))
        self.wire.says(messages.Ready(worker=head.worker))
        self.says = self.wire.says

    def _hears(self, message: Frame, head: Any) -> None:
        if isinstance(head, HttpReq):
            body = message.parts[0] if message.parts else b""
            asked = self.asked[message.sid] = Asked(self, head, body, message.sid)
            task = self._stage.loop.create_task(self._stage.functions[head.name](asked))
            self._stage.tasks.add(task)
            task.add_done_callback(self._stage.tasks.discard)
        elif isinstance(head, messages.Cancel):
            for asked in self.asked.values():
                if asked.head.call == head.job:
                    asked.cancelled.set()
        elif message.sid in self.asked:
            self.asked[message.sid].hears(message, head)

    def die(self) -> None:
        self._stage.workers.pop(self.id, None)
        self.wire.close()
        exited = messages.Exited(worker=self.id, signal=9)
        self._stage.loop.call_soon(lambda: self._stage.host.says(exited, sid=1))


class Stage:
    """Runs in a thread of its own; whatever is said here from another goes through `do`."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.loop = uvloop.new_event_loop()
        self.functions: dict[str, Function] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.workers: dict[str, Worker] = {}
        self.programs: list[messages.Launch] = []
        self.wanted = ""  # the environment that was asked for
        self.builds = "ready"  # or failed, or later: when `build` is called
        self._settings = load({"FLASH_HOME": str(home), **settings}, project=home)
        self._sids = itertools.count(1, 2)
        self._thread = threading.Thread(target=self.loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self.wait(self._start())

    async def _start(self) -> None:
        self.home.mkdir(exist_ok=True)
        kept_ms = round(self._settings.retention_spawned * 1000)
        store = open_store(self.home / "store.sqlite", durability="process", retention_ms=(60_000, kept_ms))
        self._store = store
        self.engine = Engine(
            store=store, settings=self._settings, provider=_Provider(self), rundir=self.home, watch=lambda *_: None
        )
        self.engine.start()
        listener = gateways.listen(self.home, self._settings.gateway_port)
        self.gateway = Gateway(self.engine, TOKEN, listener, self._settings)
        await self.gateway.start()
        self.connect_client()

    def connect_client(self) -> None:
        """A program that declares functions."""
        self.client = Wire(self, "client", lambda _message, head: self.told.append(head))
        self.told: list[Any] = []
        self.engine.links.client_joined(self.client, hello("client"))

    def stop(self) -> None:
        async def leave() -> None:
            await self.engine.stop(reason="stop", stop_host=False, grace_s=0)
            await self.gateway.close(1)
            for task in list(self.tasks):
                task.cancel()
            self._store.close()

        self.wait(leave())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def join_host(self, key: str) -> None:
        """The host that was asked for is there."""
        self.host = Wire(self, "host", self._host_hears)
        machine = messages.Machine(cpus=4, memory_mb=8000)
        self.engine.links.host_joined(self.host, hello("host", host="h", key=key, machine=machine))

    def _host_hears(self, message: Frame, head: Any) -> None:
        if isinstance(head, messages.EnsureEnv):
            self.wanted = head.env
            if self.builds != "later":
                self.build()
        elif isinstance(head, messages.Launch):
            self.host.says(messages.Launched(worker=head.worker, pid=os.getpid(), how="fork"))
            if head.program is not None:
                self.programs.append(head)  # a test asks in its stead
                return
            self.workers[head.worker] = Worker(self, head)
        elif isinstance(head, messages.Stop) and head.worker in {one.worker for one in self.programs}:
            self.host.says(messages.Exited(worker=head.worker, code=0, why="stop"), sid=1)
        elif isinstance(head, messages.Stop) and head.worker in self.workers:
            self.workers[head.worker].die()

    def build(self) -> None:
        """The environment is there, or cannot be."""
        path, error = ("/env", "") if self.builds == "ready" else ("", "no such package: left-pad")
        self.host.says(messages.EnvState(env=self.wanted, phase=self.builds, path=path, lock="l", error=error))

    # ── from tests ────────────────────────────────────────────────────────────────────────────────

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def do(self, work: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked
                done.set_exception(error)

        self.loop.call_soon_threadsafe(run)
        return done.result(30)

    def serve(
        self,
        name: str,
        route: str,
        function: Function,
        *,
        endpoint: str = "web",
        app: str = "app",
        version: str = "v1",
        timeout_ms: int = 0,
        workers_max: int = 3,
        concurrency: int = 100,
        schema: str = "",
    ) -> Any:
        """Declares a function, as a program does: `serve("f", "GET /f", …)`. What it is told."""
        method, _, path = route.partition(" ")
        self.functions[name] = function
        head = messages.Declare(
            endpoint=EndpointSpec(app, "dev", endpoint, kind="lb", workers_max=workers_max, scaler="REQUEST_COUNT"),
            pool=PoolSpec("/usr/bin/python3", "cpython-311", RUNTIME, concurrency=concurrency),
            function=FunctionSpec(
                name=name,
                version=version,
                digest=f"{name}-{version}",
                where=f"{name}.py:1",
                is_async=True,
                timeout_ms=timeout_ms,
                routes=[Route(method, path)],
                schema=schema,
            ),
        )
        sid = next(self._sids)
        self.do(lambda: self.client.says(head, sid=sid))
        return self.wait(self._answer())

    def declare(
        self,
        name: str,
        *,
        endpoint: str,
        app: str = "app",
        program: Program | None = None,
        workers_min: int = 0,
        **fields: Any,
    ) -> Any:
        """Declares a function of a queue, whose jobs may come over HTTP. What it is told."""
        head = messages.Declare(
            endpoint=EndpointSpec(app, "dev", endpoint, workers_min=workers_min),
            pool=PoolSpec("/usr/bin/python3", "cpython-311", RUNTIME, program=program),
            function=FunctionSpec(name=name, version="v1", digest=name, takes_json=True, timeout_ms=60_000, **fields),
        )
        sid = next(self._sids)
        self.do(lambda: self.client.says(head, sid=sid))
        return self.wait(self._answer())

    async def _answer(self) -> Any:
        while not self.told:
            await asyncio.sleep(0.001)
        return self.told.pop(0)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.gateway.url.removeprefix("http://").partition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


class _Process:
    pid = 1 << 30

    def fileno(self) -> int:
        return -1

    def reap(self) -> int | None:
        return None

    def terminate(self) -> None: ...
    def close(self) -> None: ...


class _Provider:
    name = "stand-in"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def start(self, socket: Path, home: Path, rundir: Path, key: str) -> HostProcess:
        self._stage.loop.call_soon(self._stage.join_host, key)
        return _Process()


def hello(role: str, **fields: Any) -> messages.Hello:
    return messages.Hello(
        proto_min=kinds.PROTO_MIN, proto_max=kinds.PROTO_MAX, role=role, version="1", pid=os.getpid(), **fields
    )


@contextmanager
def stage(home: Path, **settings: str) -> Iterator[Stage]:
    """An engine with its gateway, for a block."""
    one = Stage(home, **settings)
    one.start()
    try:
        yield one
    finally:
        one.stop()
