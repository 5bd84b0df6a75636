"""Answers as bytes: the gateway's own, and the heads of those that workers give."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from runpod_flash._version import __version__

Headers = Iterable[tuple[str, str]]

JSON: Final = ("content-type", "application/json")
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
_CLOSE: Final = b"connection: close\r\n"
_SERVER: Final = f"server: flash/{__version__}\r\n".encode()
_STATUS: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n" for each in HTTPStatus}
_OURS: Final = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "trailer"})
"""What a worker cannot say: it is about the connection, which is the gateway's."""
_JSON_START: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_BROKEN: Final = re.compile(r"[\r\n\0]")


class Reply(NamedTuple):
    """A whole answer of the gateway itself."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class BadHeader(ValueError):
    """A worker's header cannot be sent."""


def refusal(status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Reply:
    """Says no, and why."""
    return Reply(status, (JSON, *headers), json.dumps({"detail": detail, **more}, ensure_ascii=False).encode())


def fact(value: Mapping[str, Any], status: int = 200) -> Reply:
    """Facts as JSON."""
    return Reply(status, (JSON,), json.dumps(value, ensure_ascii=False).encode())


def page(text: str) -> Reply:
    """A page for people. It runs nothing but what is served here."""
    policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    return Reply(
        200, (("content-type", "text/html; charset=utf-8"), ("content-security-policy", policy)), text.encode()
    )


def has_body(status: int) -> bool:
    """Whether an answer of this status may have one."""
    return status >= 200 and status not in {204, 304}


class Clock:
    """The lines that every answer has, written once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = (b"", b"")
        self._both = b""

    def lines(self, date: bool = True, server: bool = True) -> bytes:
        """Date and Server, or what is asked for of them."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = b"date: %b\r\n" % formatdate(second, usegmt=True).encode(), _SERVER
            self._both = b"".join(self._lines)
        if date and server:
            return self._both
        return (self._lines[0] if date else b"") + (self._lines[1] if server else b"")


CLOCK: Final = Clock()


@functools.lru_cache(maxsize=1024)  # the same few, over and over
def _line(name: str, value: str) -> str:
    if _NAME.fullmatch(name) is None or _BROKEN.search(value) is not None:
        raise BadHeader(f"the header {name!r} is none that can be sent")
    return f"{name}: {value}\r\n"


def check_header(name: str, value: str) -> None:
    """BadHeader for what would end a line before its time."""
    _line(name, value)


def head_of_json(length: int, request: str, *, close: bool) -> bytes:
    """The same for JSON that answers a request of that id: 200, and nothing in it that could end a line."""
    more = request.encode("ascii"), length, _CLOSE if close else b""
    return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n" % (_JSON_START, CLOCK.lines(), *more)


def head_of(status: int, headers: Headers, *, length: int | None, chunked: bool = False, close: bool = False) -> bytes:
    """Everything above the body. BadHeader for what would end a line before its time."""
    said, ours = _said(status, tuple(headers))
    size = b"" if length is None else b"content-length: %d\r\n" % length
    return b"".join((said, CLOCK.lines(*ours), size, CHUNKED if chunked else b"", _CLOSE if close else b"", b"\r\n"))


@functools.lru_cache(maxsize=256)
def _said(status: int, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, tuple[bool, bool]]:
    """The lines of whoever answers, and whether Date and Server are left for us to say."""
    kept = [(name, value) for name, value in headers if name.lower() not in _OURS]
    lines = [_STATUS.get(status) or f"HTTP/1.1 {status} \r\n", *(_line(name, value) for name, value in kept)]
    names = {name.lower() for name, _value in kept}
    try:
        encoded = "".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        encoded = "".join(lines).encode("utf-8", "replace")
    return encoded, ("date" not in names, "server" not in names)


def switching(headers: Headers, protocol: str) -> bytes:
    """The answer that agrees to another protocol. BadHeader as above."""
    lines = [_STATUS[101], *(_line(name, value) for name, value in headers if name.lower() not in _OURS)]
    return "".join([*lines, "connection: Upgrade\r\n", _line("upgrade", protocol), "\r\n"]).encode("latin-1")
