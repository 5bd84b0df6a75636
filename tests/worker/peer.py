"""A host and an engine in one, over real sockets and pipes, for real zygotes and workers."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import pack_function
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame, FrameReader
from runpod_flash.wire.status_page import StatusPage
from runpod_flash.worker import zygote

PATIENCE_S = 20


@dataclass
class Zygote:
    """A zygote and the host's end of its socket."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    ready: dict[str, Any] = field(default_factory=dict)

    def ask(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        body = json.dumps(message).encode()
        socket.send_fds(self.link, [len(body).to_bytes(4, "little") + body], descriptors)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        received = zygote.receive(self.link)
        assert received is not None, "the zygote closed its socket"
        return received[0]


def start_program(runtime: Path, program: str) -> Zygote:
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    path = runtime / "runpod_flash" / "worker" / program
    process = subprocess.Popen(
        [sys.executable, "-I", str(path), str(runtime), str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    return Zygote(process, ours)


class Pipe:
    """The reading end of one of a worker's pipes."""

    def __init__(self) -> None:
        self.fd, self.write_end = os.pipe()
        self.data = b""

    def read_until(self, text: bytes) -> bytes:
        until = time.monotonic() + PATIENCE_S
        while text not in self.data:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} never came, only {self.data!r}"
            if select.select([self.fd], [], [], left)[0]:
                more = os.read(self.fd, 65536)
                assert more, f"{text!r} never came, only {self.data!r}"
                self.data += more
        return self.data


class Peer:
    """A worker, seen from its host and its engine."""

    def __init__(self, scratch: Path, name: str = "w1") -> None:
        self.name = name
        self.scratch = scratch
        self.control, self.worker_control = socket.socketpair()
        self.out, self.err, self.log = Pipe(), Pipe(), Pipe()
        self.page = StatusPage(scratch / "page", create=True)
        self.pid = 0
        self.status: int | None = None
        self.stream: socket.socket | None = None
        self._frames = FrameReader()
        self._arrived: list[Frame] = []
        self._sent_definitions: set[str] = set()
        self._jobs = 0

    # ── the host's side ──

    def order(self, at_once: int = 0, **variables: str) -> dict[str, Any]:
        return {
            "worker": self.name,
            "at_once": at_once,
            "scratch": str(self.scratch),
            "variables": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **variables},
            "title": "test",
            "host_pid": os.getpid(),
        }

    def descriptors(self) -> list[int]:
        return [
            self.worker_control.fileno(),
            self.out.write_end,
            self.err.write_end,
            self.log.write_end,
            self.out.fd,
            self.err.fd,
        ]

    def started(self, answer: dict[str, Any]) -> None:
        assert "pid" in answer, answer
        self.pid = answer["pid"]
        self.worker_control.close()
        for pipe in (self.out, self.err, self.log):
            os.close(pipe.write_end)

    def wait(self) -> int:
        """How the worker ended: its exit code, or minus the signal."""
        until = time.monotonic() + PATIENCE_S
        while self.status is None:
            assert time.monotonic() < until, "the worker does not end"
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = 0, 0  # not ours yet: the process in between is about to end
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.005)
        return self.status

    def stop(self) -> None:
        if self.pid and self.status is None:
            os.kill(self.pid, 9)
            self.wait()
        for one in (self.control, self.stream):
            if one is not None:
                one.close()
        for pipe in (self.out, self.err, self.log):
            os.close(pipe.fd)

    # ── the engine's side ──

    def connect(self, blob_dir: Path | None = None) -> dict[str, Any]:
        """Hands over a stream, welcomes the worker, and gives the head of its READY."""
        self.hand_over()
        self.send(kinds.WELCOME, {"proto": 1, "blob_dir": str(blob_dir or self.scratch), "durability": "process"})
        return head_of(self.receive(kinds.READY))

    def hand_over(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        socket.send_fds(self.control, [b"S"], [theirs.fileno()])
        theirs.close()
        self.stream, self._frames, self._arrived = ours, FrameReader(), []

    def disconnect(self) -> None:
        assert self.stream is not None
        self.stream.close()
        self.stream = None

    def send(self, kind: int, head: dict[str, Any], parts: Any = (), *, sid: int = 0, flags: int = 0) -> None:
        assert self.stream is not None
        self.stream.sendall(frame.encode(kind, json.dumps(head).encode(), parts, sid=sid, flags=flags))

    def receive(self, *expected: int) -> Frame:
        """The next frame, which has to be of one of these kinds."""
        while not self._arrived:
            assert self.stream is not None
            data = self.stream.recv(1 << 20)
            assert data, "the worker closed its stream"
            self._arrived.extend(self._frames.feed(data))
        found = self._arrived.pop(0)
        assert found.kind in expected, f"{kinds.NAMES[found.kind]} came: {found.head!r}"
        return found

    def define(self, digests: list[str]) -> None:
        for digest in digests:
            if digest not in self._sent_definitions:
                self._sent_definitions.add(digest)
                self.send(kinds.DEF, {"digest": digest}, [TABLE.body(digest)])

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> str:
        """Sends START; the id of the job."""
        packed = pack_function(function)
        encoded = codec.encode((args, options.pop("kwargs", {})))
        self.define([*packed.defs, *encoded.defs])
        self._jobs += 1
        head = {
            "job": options.pop("job", f"job-{self._jobs}"),
            "attempt": 1,
            "epoch": 1,
            "name": function.__qualname__,
            "version": "1",
            "digest": packed.digest,
            **options,
        }
        self.send(kinds.START, head, encoded.parts)
        return str(head["job"])

    def done(self) -> Done:
        return Done.of(self.receive(kinds.DONE))

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Done:
        job = self.start(function, *args, **options)
        done = self.done()
        assert done.head["job"] == job
        self.send(kinds.ACK, {"acks": [[job, 1, "recorded"]]})
        return done


@dataclass
class Done:
    """A DONE, opened as the client opens an outcome."""

    head: dict[str, Any]
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, message: Frame) -> Done:
        return cls(head_of(message), message.parts)

    @property
    def value(self) -> Any:
        assert self.head["ok"], self.head
        return codec.decode(self.parts[: self.head["values"]])

    @property
    def error(self) -> dict[str, str]:
        assert not self.head["ok"], self.head
        found: dict[str, str] = self.head["error"]
        return found


def head_of(message: Frame) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.head)
    return found
