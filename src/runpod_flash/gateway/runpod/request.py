"""One request of Runpod's protocol: what was asked, by whom, and the ways to answer."""

from __future__ import annotations

import itertools
import json
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.records import Endpoint
from runpod_flash.errors import EngineRefused, FlashError, QueueFull, StoreError
from runpod_flash.gateway.reply import JSON, Reply

if TYPE_CHECKING:
    from runpod_flash.gateway.runpod.verbs import Operation

logger = logging.getLogger(__name__)

_ID: Final = re.compile(rb"[!-~]{1,128}")
_NUMBERS: Final = itertools.count(1)
_START: Final = secrets.token_hex(4)
Headers = list[tuple[bytes, bytes]]


class Answering(Protocol):
    """The connection's side of a request."""

    def write(self, answer: Reply) -> None:
        """Sends the whole answer."""

    def write_json(self, body: bytes, request: str) -> None:
        """Sends JSON, as the answer to a request of that id."""


class Request:
    """A request whose body is all there. See the docstring of this folder."""

    __slots__ = ("_headers", "_incoming", "_said", "answered", "body", "gone", "jobs", "method", "operation", "query")

    def __init__(
        self,
        incoming: Answering,
        jobs: HttpJobs,
        operation: Operation,
        *,
        method: str,
        query: str,
        headers: Headers,
        body: bytes,
    ) -> None:
        self.jobs = jobs
        self.operation = operation
        self.method = method
        self.query = query
        self.body = body
        self.answered = False
        self.gone: Callable[[], None] = _nothing
        self._incoming = incoming
        self._headers = headers
        self._said: dict[bytes, bytes] | None = None

    # ── what was asked ────────────────────────────────────────────────────────────────────────────

    @property
    def rest(self) -> str:
        """What stands behind the verb, such as the id of a job; "" for nothing."""
        return self.operation.rest

    @property
    def authorization(self) -> bytes:
        """The header as it came."""
        return self.header(b"authorization")

    def header(self, name: bytes) -> bytes:
        """The first header of that name, which is in lower case; b"" if there is none."""
        if self._said is None:
            self._said = dict(reversed(self._headers))
        return self._said.get(name, b"")

    @property
    def fields(self) -> dict[str, str]:
        """The query; of several values of a name the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def endpoint(self) -> Endpoint:
        """The endpoint that is meant; NoEndpoint says which there are."""
        return self.operation.endpoint(self)

    def find_endpoint(self, name: str) -> Endpoint:
        """The endpoint of that id or name; Refused says which there are."""
        return self.operation.find_endpoint(self.jobs, name)

    def queue(self) -> Endpoint:
        """The same, if it takes jobs."""
        endpoint = self.endpoint()
        if endpoint.spec.kind == "lb":
            spec = endpoint.spec
            raise Refused(400, f"endpoint {spec.name!r} is load-balanced and takes no jobs: ask it at /lb/{spec.id}/…")
        return endpoint

    # ── how it is answered ────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Has the handler answer, or hold it. StoreError goes on to the engine."""
        try:
            self.operation.verb.handle(self)
        except StoreError:
            raise
        except FlashError as error:
            self.fail(error)
        if not self.answered:
            self.jobs.held.add(self)

    def send_after(self, data: bytes) -> None:
        """The same, once everything that was changed for this request is on record."""
        self.jobs.promise(self, data)

    def send(self, data: bytes) -> None:
        """200, with JSON text."""
        if not self.answered:
            self.answered = True
            self.jobs.held.discard(self)
            self._incoming.write_json(data, self._id())

    def reply(self, status: int, facts: Mapping[str, Any]) -> None:
        """Facts as JSON."""
        self._write(Reply(status, (JSON,), json.dumps(facts, ensure_ascii=False).encode("utf-8", "replace")))

    def empty(self, status: int) -> None:
        """A status that has no body."""
        self._write(Reply(status))

    def refuse(self, status: int, error: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> None:
        """Says no, and why."""
        self._write(refusal(status, error, headers, **more))

    def fail(self, error: FlashError) -> None:
        """Says what went wrong."""
        if isinstance(error, Refused):
            self._write(refusal(error.status, _words(error), **error.more))
        elif isinstance(error, QueueFull):
            seconds = str(max(1, (error.retry_after_ms or 1000) // 1000))
            self.refuse(429, _words(error), (("retry-after", seconds),))
        elif isinstance(error, EngineRefused | StoreError):
            self.refuse(503, _words(error), (("retry-after", "1"),))
        else:
            self.refuse(400, _words(error))

    def vanish(self) -> None:
        """There will be no answer: the client is gone."""
        if not self.answered:
            self.answered = True
            self.jobs.held.discard(self)
            self.gone()

    def _write(self, answer: Reply) -> None:
        if self.answered:
            return
        self.answered = True
        self.jobs.held.discard(self)
        self._incoming.write(answer._replace(headers=(*answer.headers, ("x-request-id", self._id()))))

    def _id(self) -> str:
        """The id that the caller gave this request, or one of ours."""
        said = self.header(b"x-request-id")
        return said.decode("ascii") if said and _ID.fullmatch(said) else f"{_START}-{next(_NUMBERS):x}"


class Refused(FlashError):
    """A request that cannot be granted. `more` are further facts for its answer."""

    code = "bad_request"

    def __init__(self, status: int, what: str, **more: Any) -> None:
        super().__init__(what)
        self.status = status
        self.more = more


def refusal(status: int, error: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Reply:
    """Says no, and why, in the words of this protocol."""
    body = json.dumps({"error": error, **more}, ensure_ascii=False).encode("utf-8", "replace")
    return Reply(status, (JSON, *headers), body)


def reworded(answer: Reply) -> Reply:
    """A refusal of the gateway, in the words of this protocol."""
    if not answer.body.startswith(b'{"detail"'):
        return answer
    facts = json.loads(answer.body)
    return answer._replace(body=json.dumps({"error": facts.pop("detail"), **facts}, ensure_ascii=False).encode())


def _words(error: FlashError) -> str:
    return "; ".join(piece for piece in (error.what, error.why, error.fix) if piece)


def _nothing() -> None:
    """Nobody minds."""
