"""Servers of models that people would otherwise take, each asked for the no-op over HTTP as ours is."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks import nursery
from benchmarks.peers.catalogue import Peer

STARTS_S: Final = 120


@dataclass(frozen=True)
class HttpServer:
    """One of them: a program that serves the no-op at /noop, and how its answers end."""

    peer: Peer
    end: bytes
    promise: str


def _server(name: str, module: str, requirement: str, end: bytes, promise: str) -> HttpServer:
    return HttpServer(Peer(name, f"benchmarks.peers.{module}", (requirement,), {}), end, promise)


SERVERS: Final[Mapping[str, HttpServer]] = {
    "Ray Serve": _server(
        "ray-serve",
        "ray_serve_server",
        "ray[serve]==2.60.0",
        b"}\r\n0\r\n\r\n",
        "A proxy and a replica of the deployment, each a process; up to 100 requests at once in the replica.",
    ),
    "LitServe": _server(
        "litserve",
        "litserve_server",
        "litserve==0.2.19",
        b"1}",
        "A server and a worker, each a process, and queues between them; its defaults.",
    ),
    "BentoML": _server(
        "bentoml",
        "bentoml_server",
        "bentoml==1.4.40",
        b"1}",
        "The service in the one process that reads the sockets.",
    ),
}


@contextlib.contextmanager
def served(server: HttpServer, python: str) -> Iterator[int]:
    """The port at which it answers. What else it has started, the nursery ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", server.peer.module, str(port)]
    program = subprocess.Popen(command, cwd=nursery.ROOT, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + STARTS_S
        while not _answers(port):
            if program.poll() is not None:
                raise RuntimeError(f"it ended with exit code {program.returncode} instead of serving")
            if time.monotonic() > until:
                raise RuntimeError(f"it did not answer within {STARTS_S} s")
            time.sleep(0.1)
        yield port
    finally:
        program.kill()
        program.wait()


def _answers(port: int) -> bool:
    body = b'{"n":1}'
    asked = (
        b"POST /noop HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n" + body
    )
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(asked)
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    return False
