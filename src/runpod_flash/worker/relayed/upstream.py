"""HTTP/1.1 to a program at a port of this machine: heads both ways, and bodies as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

Headers = list[tuple[str, str]]

_ADDRESSES: Final = ("127.0.0.1", "::1")
"""Where programs listen that are told to listen on localhost."""
_MOST_HEAD: Final = 64 * 1024
_PIECE: Final = 64 * 1024
_KEPT_S: Final = 2.0
"""Seconds that an idle connection is used again: less than any server keeps one."""
_MOST_KEPT: Final = 32


class Unanswered(Exception):
    """The program has not answered, or not in HTTP/1.1; the message says what it did."""


class Gone(Unanswered):
    """It has not even begun to, as if it were not there."""


class ResponseHead(NamedTuple):
    """`length` is -1 where only the end of the body tells."""

    status: int
    headers: Headers
    length: int
    chunked: bool
    keep_alive: bool


class Connection:
    """One connection to the program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used = False  # it has carried a request before
        self.idle = False  # it waits for the next
        self.since = 0.0  # monotonic

    async def head(self, method: str) -> ResponseHead:
        """The head of the final answer."""
        while True:
            try:
                raw = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                raise Unanswered(f"the head of its answer has more than {_MOST_HEAD} bytes") from None
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise Unanswered("the program broke off its answer") from None
                raise Gone("the program closed the connection without an answer") from None
            except OSError as error:
                raise Gone(f"the program's connection broke: {error.strerror or error}") from None
            head = _read_head(raw, method)
            if head.status >= 200 or head.status == 101:
                return head

    async def body(self, head: ResponseHead) -> AsyncIterator[bytes]:
        """The pieces of the body that follows. Unanswered where it ends too early."""
        try:
            if head.chunked:
                while size := await self._chunk_size():
                    async for piece in self._exactly(size):
                        yield piece
                    await self.reader.readexactly(2)
                while (await self.reader.readline()).strip():
                    pass  # trailers
            elif head.length >= 0:
                async for piece in self._exactly(head.length):
                    yield piece
            else:
                while piece := await self.reader.read(_PIECE):
                    yield piece
        except (asyncio.IncompleteReadError, OSError, ValueError):
            raise Unanswered("the program broke off its answer") from None

    async def _chunk_size(self) -> int:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        return int(line.partition(b";")[0], 16)

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self.reader.read(min(size, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece

    def close(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(OSError):
            self.writer.transport.abort()


class Upstream:
    """The program, and the connections to it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._address = ""  # where it was found
        self._idle: list[Connection] = []

    async def connect(self, *, fresh: bool = False) -> Connection:
        """A connection. Unanswered where nobody listens."""
        now = time.monotonic()
        while self._idle and not fresh:
            one = self._idle.pop()
            one.idle = False
            if now - one.since < _KEPT_S and not one.reader.at_eof() and not one.writer.is_closing():
                return one
            one.close()
        why: OSError | None = None
        for address in (self._address,) if self._address else _ADDRESSES:
            try:
                reader, writer = await asyncio.open_connection(address, self._port, limit=_MOST_HEAD)
            except OSError as error:
                why = why or error
            else:
                self._address = address
                return Connection(reader, writer)
        raise Gone(f"the program does not listen at its port {self._port}") from why

    def keep(self, connection: Connection) -> None:
        """Nothing is under way on it any more."""
        if len(self._idle) >= _MOST_KEPT:
            connection.close()
            return
        connection.used = connection.idle = True
        connection.since = time.monotonic()
        self._idle.append(connection)

    async def status_of(self, path: str) -> int:
        """How it answers a GET."""
        connection = await self.connect(fresh=True)
        try:
            connection.writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            return (await connection.head("GET")).status
        finally:
            connection.close()

    def close(self) -> None:
        """Ends all idle connections."""
        for one in self._idle:
            one.close()
        self._idle.clear()


def request_head(method: str, target: str, headers: Headers) -> bytes:
    """A request's head, as bytes."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _read_head(raw: bytes, method: str) -> ResponseHead:
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest.partition(" ")[0]
    if version not in {"HTTP/1.1", "HTTP/1.0"} or not code.isdecimal():
        raise Unanswered(f"the program answered in no HTTP/1.1: {first[:60]!r}")
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    said = {name.lower(): value.lower() for name, value in headers}
    status, chunked = int(code), "chunked" in said.get("transfer-encoding", "")
    if method == "HEAD" or status in {204, 304}:
        length, chunked = 0, False
    else:
        length = int(said["content-length"]) if said.get("content-length", "").isdecimal() and not chunked else -1
    connection = said.get("connection", "")
    keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    return ResponseHead(status, headers, length, chunked, keep_alive and (chunked or length >= 0))
