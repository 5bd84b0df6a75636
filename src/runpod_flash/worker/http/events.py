"""What a generator yields, as the body of an answer: server-sent events, or bytes as they are."""

from __future__ import annotations

import json
from typing import Any, Final

from runpod_flash.worker.http import answers
from runpod_flash.worker.http.answers import Headers

EVENTS: Final[Headers] = [
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
]
OCTETS: Final[Headers] = [("content-type", "application/octet-stream")]


def headers_for(first: object) -> Headers:
    """The first item decides what the whole is."""
    return OCTETS if isinstance(first, (bytes, bytearray, memoryview)) else EVENTS


def piece_of(item: Any, name: str) -> bytes:
    """One item: bytes as they are, text as the data of an event, anything else as JSON in one."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    text = item if isinstance(item, str) else answers.as_json(item, name).decode()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join([*(f"data: {line}\n" for line in lines), "\n"]).encode("utf-8", "replace")


def broken(call: str) -> bytes:
    """The last event of a stream that will not be whole: `EventSource` would take its mere end for one to repeat."""
    return f"event: error\ndata: {json.dumps({'detail': 'Internal Server Error', 'id': call})}\n\n".encode()
