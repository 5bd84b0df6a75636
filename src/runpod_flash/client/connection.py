"""A connected socket on an event loop: bytes in and out, and word of its end.

It is closed when the peer has read all and closes its own end. A peer that answers to a socket which is closed already
is told that nobody listens, gives the connection up, and with it what lies there unread: the cancellation of a call.

No transport of asyncio's stands in between. What one does for every write and every reading, beside the system call,
takes longer than that in a short call, and most of what it can do is of no use here.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

_READ_AT_ONCE: Final = 256 * 1024
_HIGH: Final = 4 << 20
_LOW: Final = 1 << 20
_TRY_AGAIN: Final = (BlockingIOError, InterruptedError)


class Connection:
    """One socket. `received` is called with what comes, as the last thing that a callback of the loop does."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        received: Callable[[memoryview], None],
        lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._received = received
        self._lost = lost
        self._in = memoryview(bytearray(_READ_AT_ONCE))  # to make room for each reading anew takes longer than to read
        self._out: deque[memoryview] = deque()
        self._waiting = 0  # bytes in it
        self._closing = False
        self._ended = False
        self.writable: asyncio.Future[None] | None = None
        """Is done when the peer has read; there while so much waits for it that nobody should write more."""
        loop.add_reader(sock, self._readable)

    def write(self, data: bytes) -> None:
        """Sends, or keeps what cannot be sent now; nothing once it is ending."""
        if self._out or self._closing:
            self._keep(data)
            return
        try:
            sent = self._sock.send(data)
        except _TRY_AGAIN:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

    def close(self, last: Iterable[bytes] = ()) -> None:
        """Ends it, after what waits and these, when the peer has read them; nobody hears what still comes."""
        self.write(b"".join(last))
        self._closing = True
        if not self._out:
            self._say_end()

    def abort(self) -> None:
        """Ends it now, without what waits."""
        self._out.clear()
        self._end()

    def send_last(self, data: bytes, patience_s: float) -> None:
        """The loop runs no more: what can be sent at once is, and the socket is closed when it was read, or then."""
        until = time.monotonic() + patience_s
        with suppress(OSError):
            self._sock.send(b"".join([*self._out, data]), socket.MSG_DONTWAIT)
            self._sock.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv_into(self._in):
                    break
        self._ended = self._closing = True
        self._sock.close()

    def disown(self) -> None:
        """In a forked child: closes our copy of the socket without a word, and without touching the poller."""
        self._ended = self._closing = True
        with suppress(OSError):
            os.close(self._sock.detach())

    # ── what the loop calls ───────────────────────────────────────────────────────────────────────

    def _readable(self) -> None:
        try:
            size = self._sock.recv_into(self._in)
        except _TRY_AGAIN:
            return
        except OSError:
            size = 0
        if not size:
            self.abort()
        elif not self._closing:
            self._received(self._in[:size])

    def _can_write(self) -> None:
        try:
            while self._out:
                sent = self._sock.send(self._out[0])
                self._waiting -= sent
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                    break
                self._out.popleft()
        except _TRY_AGAIN:
            return
        except OSError:
            self.abort()
            return
        if self._waiting <= _LOW:
            self._let_write()
        if not self._out:
            self._loop.remove_writer(self._sock)
            if self._closing:
                self._say_end()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, data: bytes | memoryview) -> None:
        if self._closing or not data:
            return
        if not self._out:
            self._loop.add_writer(self._sock, self._can_write)
        self._out.append(memoryview(data))
        self._waiting += len(data)
        if self._waiting > _HIGH and self.writable is None:
            self.writable = self._loop.create_future()

    def _say_end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()

    def _let_write(self) -> None:
        waiting, self.writable = self.writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._waiting = 0
        self._let_write()
        self._loop.call_soon(self._lost)
