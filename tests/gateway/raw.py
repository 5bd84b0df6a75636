"""HTTP by hand, for requests that no client would make."""

from __future__ import annotations

import socket
from typing import NamedTuple

from tests.gateway.stage import TOKEN, Stage

HOST = "Host: localhost\r\n"
AUTHORIZED = f"{HOST}Authorization: Bearer {TOKEN}\r\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One connection."""

    def __init__(self, stage: Stage) -> None:
        self.socket = stage.connect()
        self.file = self.socket.makefile("rb")

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode("latin-1") if isinstance(text, str) else text)

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and headers of the next answer."""
        line = self.file.readline()
        if not line:
            raise EOFError("the connection was closed")
        assert line.startswith(b"HTTP/1.1 "), line
        headers: dict[str, str] = {}
        while (header := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def read(self, *, head: bool = False) -> Answer:
        """The next answer."""
        status, headers = self.head()
        if head or status in {100, 204, 304}:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self.chunks())
        if "content-length" in headers:
            size = int(headers["content-length"])
            body = self.file.read(size)
            assert len(body) == size, "the connection was closed in the middle of a body"
            return Answer(status, headers, body)
        return Answer(status, headers, self.file.read())

    def chunks(self) -> bytes:
        pieces = []
        while size := int(self.line(), 16):
            piece = self.file.read(size)
            assert len(piece) == size, "the connection was closed in the middle of a chunk"
            pieces.append(piece)
            self.line()
        self.line()
        return b"".join(pieces)

    def line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection was closed")
        return line

    def ask(self, request: str | bytes, *, head: bool = False) -> Answer:
        self.send(request)
        return self.read(head=head)

    def ended(self) -> bool:
        """Whether nothing more comes, in good order."""
        return self.file.read() == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connected(stage: Stage) -> int:
    """How many connections the gateway has."""
    return stage.do(lambda: len(stage.gateway._connections))


def reset(connection: socket.socket) -> None:
    """Ends a connection as a program that is killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
