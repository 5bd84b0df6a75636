from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle
import msgspec
import pytest

import runpod_flash._version
from runpod_flash import settings
from runpod_flash.host import HOST_KEY
from runpod_flash.model.endpoint import PoolSpec, RuntimeSpec
from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import pack_function
from runpod_flash.providers.local import LocalHost, LocalProvider
from runpod_flash.wire.frame import FrameReader
from runpod_flash.wire.logfile import read_span
from runpod_flash.wire.messages import (
    Ack,
    Def,
    Done,
    EnsureEnv,
    EnvState,
    Exited,
    Goodbye,
    Head,
    Hello,
    Launch,
    Launched,
    ListEnvs,
    Ok,
    Ready,
    Rows,
    Span,
    Start,
    Stop,
    Welcome,
    decode,
)

PATIENCE = 30.0
H = TypeVar("H", bound=Head)

RUNTIME = RuntimeSpec(
    key="test-runtime",
    version=runpod_flash._version.__version__,
    package=str(Path(runpod_flash._version.__file__).parent),
    cloudpickle=str(Path(cloudpickle.__file__).parent),
    msgspec=str(Path(msgspec.__file__).parent),
)
INTERPRETER: str = getattr(sys, "_base_executable", sys.executable)
ABI: str = sysconfig.get_config_var("SOABI") or ""


class Peer:
    """One accepted connection: what came, as typed heads."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.reader = FrameReader()
        self.inbox: list[tuple[Any, int, int]] = []
        self.ended = False

    def send(self, head: Head, sid: int = 0) -> None:
        with contextlib.suppress(ConnectionError):  # it has just left; `read` will see that
            self.stream.sendall(head.encode(sid=sid))

    def read(self) -> list[tuple[Any, int, int]]:
        try:
            data = self.stream.recv(1 << 20)
        except ConnectionError:
            data = b""
        self.ended = not data
        new = [(decode(frame), frame.sid, frame.flags) for frame in self.reader.feed(data)]
        self.inbox += new
        return new


class Engine:
    """Stands where the engine would: real socket, real messages, no decisions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.acknowledges = True
        self.host: Peer | None = None
        self.workers: dict[str, Peer] = {}
        self.unknown: list[Peer] = []
        self.beat_ms = 10_000
        self.next_sid = 2
        self.patience = PATIENCE
        self.listen()

    def listen(self) -> None:
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.door.bind(str(self.path))
        self.door.listen(64)

    def go(self) -> None:
        """Vanishes as if killed."""
        self.door.close()
        self.path.unlink(missing_ok=True)
        for peer in [self.host, *self.workers.values(), *self.unknown]:
            if peer:
                peer.stream.close()
        self.host, self.workers, self.unknown = None, {}, []

    def pump(self, timeout: float) -> None:
        peers = [peer for peer in [self.host, *self.workers.values(), *self.unknown] if peer and not peer.ended]
        streams = {peer.stream.fileno(): peer for peer in peers}
        door = [self.door] if self.door.fileno() >= 0 else []
        for fd in select.select([*[one.fileno() for one in door], *streams], [], [], timeout)[0]:
            if fd == self.door.fileno():
                self.unknown.append(Peer(self.door.accept()[0]))
                continue
            peer = streams[fd]
            for message, sid, _flags in peer.read():
                if isinstance(message, Hello):
                    self.greet(peer, message)
                elif isinstance(message, Exited | Span) and self.acknowledges and peer is self.host:
                    peer.send(Ok(), sid)

    def greet(self, peer: Peer, hello: Hello) -> None:
        self.unknown.remove(peer)
        if hello.role == "host":
            if self.host:
                self.host.stream.close()
            self.host = peer
        else:
            self.workers[hello.worker] = peer
        welcome = Welcome(
            proto=1, engine="test", start_no=1, version="0", pid=os.getpid(), data_dir="", blob_dir="",
            durability="process", lease_ms=30_000, beat_ms=self.beat_ms,
        )  # fmt: skip
        peer.send(welcome)

    def send(self, head: Head) -> int:
        assert self.host is not None
        sid, self.next_sid = self.next_sid, self.next_sid + 2
        self.host.send(head, sid)
        return sid

    def expect(self, kind: type[H], when: Callable[[H], bool] = lambda _head: True, sid: int | None = None) -> H:
        """The next message of that kind from the host; taken out of its inbox."""
        limit = time.monotonic() + self.patience
        while time.monotonic() < limit:
            for entry in self.host.inbox if self.host else []:
                message, of, _flags = entry
                if isinstance(message, kind) and (sid is None or of == sid) and when(message):
                    assert self.host is not None
                    self.host.inbox.remove(entry)
                    return message
            self.pump(0.05)
        raise AssertionError(f"no {kind.__name__} came; there is {self.host and self.host.inbox}")

    def until(self, condition: Callable[[], object]) -> None:
        limit = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < limit, "it never happened"
            self.pump(0.02)

    def pending(self, kind: type[H]) -> list[H]:
        self.pump(0)
        return [message for message, _, _ in (self.host.inbox if self.host else []) if isinstance(message, kind)]


class Machine:
    """A home, a run directory, an engine's double, and a real host process."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.rundir = folder / "run"
        self.rundir.mkdir(mode=0o700)
        self.engine = Engine(self.rundir / "s")
        self.provider = LocalProvider(restart_engine=False)
        self.host: LocalHost | None = None
        self.variables = settings.inherited()
        self.launches = 0

    def start(self) -> LocalHost:
        self.host = self.provider.start(self.engine.path, self.home, self.rundir, "secret")
        self.engine.expect(Hello)
        return self.host

    def start_altered(self, change: str) -> LocalHost:
        """A host in which `change` was executed before it began."""
        host = self.spawn_altered(change)
        self.engine.expect(Hello)
        return host

    def spawn_altered(self, change: str) -> LocalHost:
        """The same, not waited for."""
        code = f"import sys\n{change}\nfrom runpod_flash.host.main import main\nsys.exit(main())"
        arguments = ["--socket", self.engine.path, "--home", self.home, "--rundir", self.rundir]
        command = [sys.executable, "-c", code, *map(str, arguments)]
        variables = {**os.environ, HOST_KEY: "k"}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=variables)
        self.host = LocalHost(process)
        return self.host

    def stop(self) -> int:
        """Ends the host in good order; its exit code."""
        assert self.host is not None
        self.engine.send(Goodbye(reason="stop", stop_host=True))
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        assert self.host is not None
        limit = time.monotonic() + PATIENCE
        while (code := self.host.reap()) is None:
            assert time.monotonic() < limit, "the host does not end"
            self.engine.pump(0.02)
        self.host.close()
        self.host = None
        return code

    def close(self) -> None:
        if self.host:
            if self.host.reap() is None:
                os.kill(self.host.pid, signal.SIGKILL)
            self.wait_for_end()
        self.engine.go()

    def log(self) -> str:
        return (self.home / "logs" / "host.log").read_text()

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def worker(self, environment: str, **more: Any) -> str:
        """The id of a new worker that is ready."""
        launched = self.launch(environment, **more)
        assert not launched.error, launched.error
        self.engine.until(lambda: self.heard(launched.worker, Ready))
        return launched.worker

    def heard(self, worker: str, kind: type[H]) -> list[H]:
        peer = self.engine.workers.get(worker)
        return [message for message, _, _ in peer.inbox if isinstance(message, kind)] if peer else []

    def submit(
        self, worker: str, function: Callable[..., Any], *args: Any, timeout_ms: int = 0, job: str = "job1"
    ) -> None:
        """START of a call; `Done` comes to `heard`."""
        packed = pack_function(function)
        peer = self.engine.workers[worker]
        for digest in packed.defs:
            peer.stream.sendall(Def(digest=digest).encode([TABLE.body(digest)]))
        start = Start(job=job, attempt=1, epoch=1, name="f", digest=packed.digest, timeout_ms=timeout_ms)
        peer.stream.sendall(start.encode(codec.encode((args, {})).parts))

    def call(self, worker: str, function: Callable[..., Any], *args: Any, job: str = "job1") -> Done:
        before = len(self.heard(worker, Done))
        self.submit(worker, function, *args, job=job)
        self.engine.until(lambda: len(self.heard(worker, Done)) > before)
        done = self.heard(worker, Done)[-1]
        peer = self.engine.workers[worker]
        peer.send(Ack(acks=[(job, 1, "recorded")]))
        return done

    def lines(self, span: Span) -> list[str]:
        """What the log files hold of an attempt."""
        found = read_span(self.home, span.segment, span.start, span.length, span.job, span.attempt)
        return [line for _, _, line in found]

    # ── requests ─────────────────────────────────────────────────────────────────────────────────

    def order(self, *requirements: str, interpreter: str = INTERPRETER, abi: str = ABI, **index: str) -> EnsureEnv:
        pool = PoolSpec(interpreter=interpreter, abi=abi, runtime=RUNTIME, requirements=requirements, index=index)
        return EnsureEnv(
            env=pool.environment_key(),
            interpreter=interpreter,
            abi=abi,
            requirements=list(requirements),
            index=index,
            variables=self.variables,
        )

    def clear(self) -> None:
        """Ends all workers and forgets what was said, so that the next test finds the host as this one did."""
        for worker in self.engine.workers:
            self.engine.send(Stop(worker=worker))
            self.engine.expect(Exited, lambda gone, worker=worker: gone.worker == worker)  # type: ignore[misc]
        self.engine.until(lambda: not list((self.rundir / "workers").iterdir()))
        self.engine.expect(Rows, sid=self.engine.send(ListEnvs()))  # so it has said all it had to say
        for peer in self.engine.workers.values():
            peer.stream.close()
        self.engine.workers.clear()
        assert self.engine.host is not None
        self.engine.host.inbox.clear()

    def build(self, *requirements: str, **index: str) -> EnvState:
        sid = self.engine.send(self.order(*requirements, **index))
        return self.engine.expect(EnvState, lambda state: state.phase in ("ready", "failed"), sid)

    def built(self) -> str:
        """Where an environment of nothing lies, which is there when this returns."""
        state = self.build()
        assert state.phase == "ready", state.error
        return state.path

    def launch(self, environment: str, **more: Any) -> Launched:
        self.launches += 1
        more = {"worker": f"w{self.launches}", "variables": self.variables, **more}
        message = Launch(key="k", endpoint="test", env=environment, runtime=RUNTIME, **more)
        return self.engine.expect(Launched, sid=self.engine.send(message))


@contextlib.contextmanager
def new_machine() -> Iterator[Machine]:
    """A machine on which nothing runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="fh"))  # pytest's own folders are too deep for a socket
    made = Machine(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with new_machine() as made:
        yield made


@pytest.fixture
def environment(machine: Machine) -> str:
    """An environment of nothing, at a host that has been started for it."""
    machine.start()
    return machine.built()


def processes_in(host: int) -> list[int]:
    """Every living descendant of a process, zombies included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parent = int(text[text.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [host]
    while todo:
        new = children.get(todo.pop(), [])
        found += new
        todo += new
    return found
