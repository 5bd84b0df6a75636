"""Real engines in processes of their own, and a link that says what the test tells it to."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from runpod_flash.wire import messages
from runpod_flash.wire.frame import Frame, FrameReader
from tests.waiting import until

PYTHON = sys.executable
SECONDS = 20.0


class Machine:
    """One data folder, one run folder, and the engines that the test starts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.run = folder / "run"
        self.run.mkdir(mode=0o700)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(self.run),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        self.engines: list[Engine] = []
        self.peers: list[Peer] = []

    def start(self, *options: str, pass_fds: tuple[int, ...] = (), **environ: str) -> Engine:
        """Starts an engine, and waits for the line in which it says how that went."""
        ready, theirs = os.pipe()
        process = subprocess.Popen(
            [PYTHON, "-m", "runpod_flash.daemon", "--home", self.home, "--ready-fd", str(theirs), *options],
            env=self.environ | environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs, *pass_fds),
            start_new_session=True,
        )
        os.close(theirs)
        engine = Engine(self, process)
        self.engines.append(engine)
        engine.said = json.loads(read_line(ready) or "{}")
        os.close(ready)
        return engine

    @property
    def facts(self) -> dict[str, Any]:
        """engine.json."""
        found: dict[str, Any] = json.loads((self.home / "engine.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this data folder."""
        every = psutil.process_iter(["cmdline"])
        return [process for process in every if str(self.home) in (process.info["cmdline"] or ())]

    def peer(self, **hello: Any) -> Peer:
        """Connects to the engine that runs."""
        peer = Peer(self.facts["socket"], **hello)
        self.peers.append(peer)
        return peer

    def end(self) -> None:
        """Ends what a test left."""
        for peer in self.peers:
            peer.sock.close()
        for engine in self.engines:
            engine.process.kill()
            engine.process.wait()
        for process in self.processes():
            process.kill()


class Engine:
    """An engine that was started."""

    def __init__(self, machine: Machine, process: subprocess.Popen[bytes]) -> None:
        self.machine = machine
        self.process = process
        self.said: dict[str, Any] = {}

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def log(self) -> str:
        return (self.machine.home / "engine.log").read_text()


class Peer:
    """A blocking link to an engine."""

    def __init__(self, address: str, **hello: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(address)
        self._reader = FrameReader()
        self._arrived: list[Frame] = []
        fields: dict[str, Any] = {
            "proto_min": 1,
            "proto_max": 1,
            "role": "client",
            "version": "0.1.0",
            "pid": os.getpid(),
        }
        self.sock.sendall(messages.Hello(**(fields | hello)).encode())
        self.welcome = self.hear()

    def hear(self) -> Any:
        """The next head, or None at the end of the link."""
        while not self._arrived:
            data = self.sock.recv(1 << 20)
            if not data:
                return None
            self._arrived = self._reader.feed(data)
        return messages.decode(self._arrived.pop(0))

    def ask(self, head: messages.Head) -> Any:
        """The answer to a request."""
        self.sock.sendall(head.encode(sid=1))
        return self.hear()

    def status(self) -> dict[str, Any]:
        row: dict[str, Any] = self.ask(messages.Query(what="status")).rows[0]
        return row

    def host(self) -> int:
        """The process id of the connected host, once there is one."""
        self.ask(messages.Query(what="deps"))
        until(lambda: (self.status()["host"] or {}).get("connected"))
        return int(self.status()["host"]["pid"])


def read_line(fd: int) -> bytes:
    """Up to a newline or the end."""
    said = b""
    while not said.endswith(b"\n") and select.select([fd], [], [], SECONDS)[0]:
        chunk = os.read(fd, 4096)
        if not chunk:
            break
        said += chunk
    return said
