"""Requests to `/lb/{endpoint}/…` of `flash run`, passed on to the engine's gateway with its token.

Only for the project's own load-balanced functions, and only for programs of this machine: nothing else is reached
without a token that way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httptools
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from runpod_flash.client import transport
from runpod_flash.errors import EngineUnavailable, did_you_mean
from runpod_flash.settings import load
from runpod_flash.web import trust
from runpod_flash.wire.messages import Query, Rows

PATH: Final = "/lb/"
_READ: Final = 1 << 16
_OF_ONE_CONNECTION: Final = frozenset({
    b"authorization", b"connection", b"content-length", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
})  # fmt: skip


Endpoints = Callable[[], Awaitable[Mapping[str, str]]]
"""Gives the ids of the project's load-balanced endpoints, by name."""


def is_trusted(scope: Scope) -> bool:
    """Whether a program of this machine asks, and no page of the web through a browser."""
    said = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"host", b"origin")}
    client = scope.get("client")
    name = trust.host_name(said.get(b"host", ""))
    if client is None or not trust.is_trusted(f"[{client[0]}]" if ":" in client[0] else client[0]):
        return False
    return (
        name is not None and trust.is_trusted(name) and trust.is_trusted_origin(said.get(b"origin", "http://localhost"))
    )


class Relay:
    """Passes requests on; knows the endpoints by name, and the gateway once it has asked for it."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_trusted(scope):
            refusal = {"detail": "load-balanced functions are served to programs of this machine only"}
            await JSONResponse(refusal, 403)(scope, receive, send)
            return
        name, _, rest = scope["path"].removeprefix(PATH).partition("/")
        known = await self._endpoints()
        endpoint = known.get(name) or (name if name in known.values() else "")
        if not endpoint:
            detail = f"this project has no load-balanced endpoint {name!r}.{did_you_mean(name, known)}"
            await JSONResponse({"detail": detail, "endpoints": sorted(known)}, 404)(scope, receive, send)
            return
        gateway, token = await _gateway()
        await _pass_on(
            gateway, token, f"{PATH}{endpoint}/{quote(rest, safe='/:@!$&()*+,;=~-._')}", scope, receive, send
        )


async def _gateway() -> tuple[str, str]:
    """Where it listens, as `host:port`, and the token that it wants."""
    link = transport.current()
    rows: Rows = await link.request(Query(what="status"))
    url = rows.rows[0].get("gateway_url") if rows.rows else None
    try:
        token = (load().home / "token").read_text(encoding="ascii").strip()
    except OSError as error:
        raise EngineUnavailable(
            "the engine's token cannot be read", why=str(error), fix="flash engine restart"
        ) from None
    if not url:
        raise EngineUnavailable("the engine has no gateway", fix="flash engine restart")
    return urlsplit(url).netloc, token


async def _pass_on(gateway: str, token: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    host, _, port = gateway.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    upload = asyncio.create_task(_upload(_head(gateway, token, path, scope), scope, receive, writer))
    try:
        await _download(reader, send)
    finally:
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _head(gateway: str, token: str, path: str, scope: Scope) -> bytes:
    query = scope["query_string"]
    target = path.encode() + (b"?" + query if query else b"")
    lines = [
        scope["method"].encode() + b" " + target + b" HTTP/1.1",
        b"host: " + gateway.encode(),
        b"authorization: Bearer " + token.encode(),
        b"connection: close",
        *(name + b": " + value for name, value in scope["headers"] if name not in _OF_ONE_CONNECTION),
    ]
    return b"\r\n".join(lines)


async def _upload(head: bytes, scope: Scope, receive: Receive, writer: asyncio.StreamWriter) -> None:
    """The request, its body piece by piece; a client that goes away ends it."""
    said = dict(scope["headers"])
    chunked = b"transfer-encoding" in said
    length = said.get(b"content-length")
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: " + (length or b"0")
    writer.write(head + b"\r\n" + framing + b"\r\n\r\n")
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            writer.close()
            return
        body = message.get("body", b"")
        if body:
            writer.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
        if not message.get("more_body") and chunked:
            writer.write(b"0\r\n\r\n")
            chunked = False
        await writer.drain()


class _Answer:
    """Takes the gateway's bytes apart; what is to be sent stands in `messages`."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.complete = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        self.messages = []
        self._parser.feed_data(data)
        return self.messages

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in {b"connection", b"transfer-encoding", b"keep-alive"}:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.messages.append({"type": "http.response.start", "status": status, "headers": self._headers})
        self._headers = []

    def on_body(self, body: bytes) -> None:
        self.messages.append({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.complete = True
            self.messages.append({"type": "http.response.body", "body": b"", "more_body": False})


async def _download(reader: asyncio.StreamReader, send: Send) -> None:
    answer = _Answer()
    while not answer.complete:
        data = await reader.read(_READ)
        if not data:
            raise ConnectionResetError("the gateway closed the connection in the middle of an answer")
        for message in answer.feed(data):
            await send(message)
