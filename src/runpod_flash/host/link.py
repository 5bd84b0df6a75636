"""The stream to the engine: greeting, reconnection, and what must not get lost on the way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from runpod_flash._version import __version__
from runpod_flash.host.loop import Loop, Timer
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame, FrameError, FrameReader
from runpod_flash.wire.messages import BadHead, Head, Hello, Refuse, Welcome, decode

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_GREETING_LIMIT_S = 10.0
_READ = 256 * 1024
_OUTBOX_LIMIT = 8 * 1024 * 1024
"""Bytes that wait for an engine that does not read; beyond it, lines for live viewers are dropped."""


class Link:
    """One connection at a time; `received` gets every frame after WELCOME."""

    def __init__(
        self,
        path: str,
        loop: Loop,
        *,
        hello: Callable[[], Hello],
        welcomed: Callable[[Welcome], None],
        refused: Callable[[Refuse], None],
        received: Callable[[Frame], None],
        lost: Callable[[], None],
        nobody: Callable[[], None],
    ) -> None:
        self._path = path
        self._loop = loop
        self._hello = hello
        self._welcomed = welcomed
        self._refused = refused
        self._received = received
        self._lost = lost
        self._nobody = nobody
        self._kept: dict[int, bytes] = {}
        self._next_sid = 1
        # of one connection
        self._socket: socket.socket | None = None
        self._reader = FrameReader()
        self._outbox = bytearray()
        self._limit: Timer | None = None
        self.up = False
        # between connections
        self._pause = _FIRST_PAUSE_S
        self._closed = False

    def connect(self) -> None:
        """Tries now, and then again and again."""
        if self._closed or self._socket:
            return
        try:
            self._socket = _dial(self._path)
        except BlockingIOError:  # somebody listens, with a full backlog
            self._later()
            return
        except OSError:
            self._nobody()
            self._later()
            return
        self._reader, self._outbox = FrameReader(), bytearray()
        self._loop.watch(self._socket.fileno(), self._read)
        self._limit = self._loop.after(_GREETING_LIMIT_S, self._drop)
        self._write(self._hello().encode())

    def send(self, head: Head, sid: int = 0, flags: int = 0) -> None:
        """To the engine that is there now, if one is."""
        if self.up:
            self._write(head.encode(sid=sid, flags=flags))

    def send_if_easy(self, head: Head) -> None:
        """The same, dropped if the engine is slow to read."""
        if self.up and len(self._outbox) < _OUTBOX_LIMIT:
            self._write(head.encode())

    def keep(self, head: Head) -> None:
        """To this engine or the next: sent until somebody answers OK."""
        sid = self._next_sid
        self._next_sid += 2
        self._kept[sid] = head.encode(sid=sid)
        if self.up:
            self._write(self._kept[sid])

    def open_stream(self, worker: str, key: str, role: str = "worker") -> socket.socket | None:
        """A connection of its own for a worker, already introduced; as a client it makes calls over it."""
        if not self.up:
            return None
        hello = Hello(
            proto_min=kinds.PROTO_MIN,
            proto_max=kinds.PROTO_MAX,
            role=role,
            version=__version__,
            pid=os.getpid(),
            worker=worker,
            key=key,
        )
        try:
            stream = _dial(self._path)
        except OSError:
            return None  # the link is being lost too; after the next WELCOME every worker gets a stream
        stream.sendall(hello.encode())  # fits into an empty socket buffer
        stream.setblocking(True)
        return stream

    def close(self) -> None:
        """No more connections."""
        self._closed = True
        self._disconnect()

    def _read(self) -> None:
        if (stream := self._socket) is None:
            return
        try:
            data = stream.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
            return
        try:
            for frame in self._reader.feed(data):
                if stream is self._socket:  # else a frame before has ended this connection
                    self._take(frame)
        except (FrameError, BadHead):
            self._drop()

    def _take(self, frame: Frame) -> None:
        if self.up:
            if frame.kind == kinds.OK:
                self._kept.pop(frame.sid, None)
            else:
                self._received(frame)  # which knows what to do about a head that does not fit
            return
        greeting: Any = decode(frame)
        if isinstance(greeting, Refuse) and not greeting.handover:
            self.close()
            self._refused(greeting)
        elif isinstance(greeting, Welcome):
            self._greeted(greeting)
        else:
            self._drop()

    def _greeted(self, welcome: Welcome) -> None:
        if self._limit:
            self._limit.cancel()
        self.up = True
        self._pause = _FIRST_PAUSE_S
        for message in list(self._kept.values()):
            self._write(message)
        self._welcomed(welcome)

    def _drop(self) -> None:
        was_up = self.up
        self._disconnect()
        if was_up:
            self._lost()
            self.connect()
        else:
            self._later()

    def _disconnect(self) -> None:
        self.up = False
        if self._limit:
            self._limit.cancel()
        if self._socket:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _later(self) -> None:
        self._loop.after(self._pause, self.connect)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def _write(self, data: bytes) -> None:
        self._outbox += data
        if len(self._outbox) == len(data):
            self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            while self._outbox:
                sent = self._socket.send(self._outbox)
                del self._outbox[:sent]
        except BlockingIOError:
            self._loop.watch_writable(self._socket.fileno(), self._flush)
            return
        except OSError:
            # What it still had to say may lie in our buffer: the reader sees the end after that.
            self._outbox.clear()
        self._loop.unwatch_writable(self._socket.fileno())


def _dial(path: str) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.setblocking(False)  # on a unix socket, connecting succeeds or fails at once
    try:
        stream.connect(path)
    except OSError:
        stream.close()
        raise
    return stream
