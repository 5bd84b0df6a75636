"""Starlette's classes, where the user's function works with them: requests made for it, and responses run.

They are those of the user's own environment, found through the annotations and values that name them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any
from urllib.parse import quote

from runpod_flash.payload import parameters
from runpod_flash.worker.http.answers import Answer, Headers
from runpod_flash.worker.http.request import Request

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]


def make(annotation: Any, names: Collection[str]) -> Any:
    """A new object of the class that the annotation names."""
    kind = parameters.framework_class(annotation, names)
    assert kind is not None, annotation
    return kind()


def make_request(annotation: Any, request: Request) -> Any:
    """The request, as the class that the annotation names."""
    kind: Any = parameters.framework_class(annotation, ("Request", "HTTPConnection"))
    scope = scope_of(request)
    return kind(scope, receiver(request)) if hasattr(kind, "body") else kind(scope)


def scope_of(request: Request) -> dict[str, Any]:
    """What ASGI knows of a request."""
    prefix = next(iter(request.header("x-forwarded-prefix")), "")
    path = prefix + request.path
    host = next(iter(request.header("host")), "localhost").partition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": next(iter(request.header("x-forwarded-proto")), "http"),
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": prefix,
        "query_string": request.query.encode("utf-8", "replace"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in request.headers],
        "path_params": dict(request.params),
        "client": None,
        "server": (host[0], int(host[2]) if host[2].isdigit() else None),
        "state": {},
    }


def receiver(request: Request) -> Callable[[], Awaitable[Message]]:
    """Gives the body piece by piece. After it nothing comes: a client that leaves ends the call itself."""
    pieces: AsyncIterator[bytes] | None = request.body.pieces()

    async def receive() -> Message:
        nonlocal pieces
        if pieces is None:
            await asyncio.Event().wait()
        assert pieces is not None
        async for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        pieces = None
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


def is_response(value: Any) -> bool:
    """Whether it can answer by itself, as Starlette's responses and those of libraries built on it do."""
    return hasattr(value, "status_code") and callable(value) and hasattr(value, "headers")


def as_whole(response: Any) -> Answer | None:
    """A response that is all there and leaves nothing to do; None for others, which are run."""
    body = getattr(response, "body", None)
    if not isinstance(body, bytes) or hasattr(response, "body_iterator") or getattr(response, "background", None):
        return None
    return Answer(int(response.status_code), headers_of(response.raw_headers), body)


def headers_of(raw: Any) -> Headers:
    """Names and values as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
