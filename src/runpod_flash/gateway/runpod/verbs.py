"""What can be asked of an endpoint in Runpod's protocol: the table of verbs, and how a path finds its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.records import Endpoint
from runpod_flash.errors import did_you_mean
from runpod_flash.gateway import limits
from runpod_flash.gateway.reply import Reply
from runpod_flash.gateway.runpod import control, facts, follow, management, submit, workers
from runpod_flash.gateway.runpod.request import Refused, Request, refusal
from runpod_flash.gateway.token import Key
from runpod_flash.wire.messages import ErrorInfo

PREFIX: Final = "/v2/"
BY_HEADERS: Final = "flash"
"""Stands in a path for the endpoint that the headers name."""
_ASK_FOR_TOKEN: Final = (("www-authenticate", 'Bearer realm="flash"'),)
_UNIQUE: Final = re.compile("-[0-9a-f]{6}")
_POST: Final = frozenset({"POST"})
_GET: Final = frozenset({"GET"})
_BOTH: Final = frozenset({"GET", "POST"})


class Verb(NamedTuple):
    """Who answers. `token`: only whoever has the engine's; else the handler looks at `request.authorization`."""

    handle: Callable[[Request], None]
    methods: frozenset[str]
    token: bool = True
    # A worker whose handler blocks its loop does not see that a kept connection has ended with its engine, sends a
    # result on it, and throws the result away.
    closes: bool = False
    limit: str = ""  # the setting that says how large a body may be; "": that of all
    too_large: Callable[[HttpJobs, str, bytes, ErrorInfo], None] | None = None  # what else follows, for its `rest`


VERBS: Final[dict[str, Verb]] = {
    # Clients.
    "run": Verb(submit.run, _POST, limit=limits.RUN),
    "runsync": Verb(submit.runsync, _POST, limit=limits.RUNSYNC),
    "status": Verb(follow.status, _BOTH),
    "status-sync": Verb(follow.status_sync, _BOTH),
    "stream": Verb(follow.stream, _BOTH),
    "cancel": Verb(control.cancel, _POST),
    "retry": Verb(control.retry, _POST),
    "purge-queue": Verb(control.purge_queue, _POST),
    "health": Verb(facts.health, _GET),
    "metrics": Verb(facts.metrics, _GET),
    "requests": Verb(facts.requests, _GET),
    # Workers.
    "job-take": Verb(workers.take, _GET, token=False, closes=True),
    "job-take-batch": Verb(workers.take_batch, _GET, token=False, closes=True),
    "job-stop": Verb(workers.stop, _GET, token=False, closes=True),
    "job-done": Verb(workers.done, _POST, token=False, closes=True, too_large=workers.done_too_large),
    "job-stream": Verb(workers.stream, _POST, token=False, closes=True),
    "ping": Verb(workers.ping, _GET, token=False, closes=True),
}


MANAGED: Final[dict[str, Verb]] = {"serverless": Verb(management.serverless, frozenset())}
"""What stands in the place of an endpoint, and is none. The handlers say which methods they answer."""
GRAPHQL: Final = "/graphql"
_GRAPHQL: Final = Verb(management.graphql, _POST)


class Operation(NamedTuple):
    """A request's way to its handler."""

    verb: Verb
    place: str  # the endpoint's id or name, or BY_HEADERS
    function: str  # "" unless the path names one
    rest: str

    def endpoint(self, request: Request) -> Endpoint:
        """The endpoint; Refused says which there are."""
        if self.place == BY_HEADERS:
            return _by_headers(request)
        return self.find_endpoint(request.jobs, self.place)

    def find_endpoint(self, jobs: HttpJobs, name: str) -> Endpoint:
        """The endpoint of that id or name; Refused says which there are."""
        found = jobs.named(name)
        if len(found) == 1:
            return found[0]
        raise _ambiguous(name, found) if found else _unknown(jobs, name)


def find(method: str, path: str, authorization: bytes, key: Key) -> Operation | Reply:
    """Who answers a path that begins with /v2/."""
    place, _, behind = path[len(PREFIX) :].partition("/")
    if place in MANAGED:
        return _managed(MANAGED[place], behind, authorization, key)
    name, _, rest = behind.partition("/")
    verb = VERBS.get(name)
    if (verb is None or verb.token) and not key.fits(authorization):
        return _unauthorized(authorization)
    if verb is None:
        what = f"there is no operation {name!r}" if name else f"{path!r} names no operation, such as /run"
        return refusal(404, f"{what}.{did_you_mean(name, VERBS)}", operations=sorted(VERBS))
    if method not in verb.methods:
        allowed = ", ".join(sorted(verb.methods))
        return refusal(405, f"{method} is not answered at /{name}, but {allowed}", (("allow", allowed),))
    place, _, function = place.partition(":")
    return Operation(verb, place, function, rest)


def find_graphql(method: str, authorization: bytes, key: Key) -> Operation | Reply:
    """Who answers /graphql."""
    if method != "POST":
        return refusal(405, f"{method} is not answered at {GRAPHQL}, but POST", (("allow", "POST"),))
    return _managed(_GRAPHQL, "", authorization, key)


def _managed(verb: Verb, rest: str, authorization: bytes, key: Key) -> Operation | Reply:
    if not key.fits(authorization):
        return _unauthorized(authorization)
    return Operation(verb, "", "", rest)


def _unauthorized(authorization: bytes) -> Reply:
    why = "the key is not this engine's" if authorization else "a key is needed: Authorization: Bearer …"
    return refusal(401, f"{why}; `flash engine token` prints it", _ASK_FOR_TOKEN)


# ── which endpoint ────────────────────────────────────────────────────────────────────────────────


def _by_headers(request: Request) -> Endpoint:
    app, env, name = (
        request.header(b"x-flash-" + one).decode("utf-8", "replace") for one in (b"app", b"environment", b"endpoint")
    )
    if not name:
        raise Refused(400, "the header X-Flash-Endpoint has to name an endpoint, X-Flash-App and -Environment whose")
    specs = [(one, one.spec) for one in request.jobs.named(name)]
    found = [one for one, spec in specs if env in ("", spec.env) and _is_app(app, spec.app)]
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(name, found)
    of = " ".join(f"{what} {value!r}" for what, value in (("app", app), ("environment", env)) if value)
    where = [f"{spec.app}/{spec.env}" for _one, spec in specs]
    here = f"; endpoints of that name are in {', '.join(where)}" if where else ""
    raise Refused(404, f"endpoint {name!r} not found in {of or 'any app'}{here}: run the program that declares it")


def _is_app(said: str, app: str) -> bool:
    """Whether an app is meant: by its name, or by that of its project, which Flash makes unique with six digits."""
    return said in ("", app) or _UNIQUE.fullmatch(app.removeprefix(said)) is not None


def _unknown(jobs: HttpJobs, name: str) -> Refused:
    known = [one.spec.name for one in jobs.endpoints()]
    what = f"there is no endpoint {name!r}: run the program that declares it, or flash serve it"
    return Refused(404, f"{what}.{did_you_mean(name, known)}")


def _ambiguous(name: str, found: Sequence[Endpoint]) -> Refused:
    choices = [{"id": one.spec.id, "app": one.spec.app, "env": one.spec.env} for one in found]
    return Refused(404, f"{len(found)} endpoints are named {name!r}: say which by its id", choices=choices)
