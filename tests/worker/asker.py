"""Asks a worker over HTTP, in the place of the engine: the frames of requests, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from runpod_flash.payload.functions import pack_function
from runpod_flash.wire import kinds
from tests.worker.peer import Peer, head_of


@dataclass
class Answer:
    """What came: the head of HTTP_RES, the whole body, and the facts of the end."""

    head: dict[str, Any]
    body: bytes
    pieces: list[bytes] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)
    broken: bool = False

    @property
    def status(self) -> int:
        return int(self.head["status"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.head["headers"] if key.lower() == name), None)

    @property
    def places(self) -> list[list[Any]]:
        """Where a request did not fit."""
        return [error["loc"] for error in self.json["detail"]]


class Asker:
    """A worker that takes many requests at once."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._sid = 0

    def begin(
        self,
        function: Callable[..., Any],
        method: str = "POST",
        *,
        body: Any = b"",
        query: Any = "",
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        timeout_ms: int = 0,
        more: bool = False,
    ) -> int:
        """Sends a request; the number of its stream."""
        packed = pack_function(function)
        self.peer.define(packed.defs)
        self._sid += 2
        kind = {} if isinstance(body, bytes) else {"content-type": "application/json"}
        head = {
            "call": f"call-{self._sid}",
            "name": function.__qualname__,
            "digest": packed.digest,
            "method": method,
            "path": "/it",
            "query": query if isinstance(query, str) else urlencode(query, doseq=True),
            "headers": [*{**kind, **(headers or {})}.items()],
            "params": params or {},
            "timeout_ms": timeout_ms,
            "more": more,
        }
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.peer.send(kinds.HTTP_REQ, head, [data], sid=self._sid)
        return self._sid

    def data(self, sid: int, body: bytes, *, last: bool = False) -> None:
        self.peer.send(kinds.DATA, {}, [body], sid=sid, flags=kinds.END if last else 0)

    def credit(self, sid: int, size: int) -> None:
        self.peer.send(kinds.CREDIT, {"bytes": size}, sid=sid)

    def cancel(self, sid: int) -> None:
        self.peer.send(kinds.CANCEL, {"job": f"call-{sid}", "cause": "the client is gone"})

    def answer(self) -> Answer:
        """The next answer, to its end; what is read is said to be used up. Before it, room for more of the body."""
        message = self.peer.receive(kinds.HTTP_RES, kinds.CREDIT)
        while message.kind == kinds.CREDIT:
            message = self.peer.receive(kinds.HTTP_RES, kinds.CREDIT)
        head = head_of(message)
        found = Answer(head, message.parts[0], [message.parts[0]], head)
        while not message.flags & kinds.END:
            self.credit(message.sid, len(message.parts[0]))
            message = self.peer.receive(kinds.DATA)
            found.pieces.append(message.parts[0])
        found.end = head_of(message)
        found.broken = bool(message.flags & kinds.FAILED)
        found.body = b"".join(found.pieces)
        return found

    def use_up(self) -> None:
        """Reads what the window lets come of an answer, and allows no more."""
        received = len(self.peer.receive(kinds.HTTP_RES).parts[0])
        while received < kinds.WINDOW:
            received += len(self.peer.receive(kinds.DATA).parts[0])

    def ask(self, function: Callable[..., Any], method: str = "POST", **request: Any) -> Answer:
        self.begin(function, method, **request)
        return self.answer()
