"""Whose a request is: a function's, a page of the gateway's, or nobody's, and then why.

/                           which endpoints there are
/health                     that the gateway answers
/lb/{endpoint}{path}        the endpoint by its id, or by a name that only one has
{endpoint}.localhost{path}  the same, by the host
/port/{worker or endpoint}/{number}/…  what listens at a port of a worker (ports.py)
/v2/{endpoint}/…            jobs, in Runpod's protocol (runpod/)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.records import Endpoint, Function
from runpod_flash.engine.routes import Routes
from runpod_flash.errors import did_you_mean
from runpod_flash.gateway import pages, ports
from runpod_flash.gateway.pages import PING
from runpod_flash.gateway.ports import Port
from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.gateway.runpod import verbs
from runpod_flash.gateway.runpod.verbs import Operation
from runpod_flash.gateway.target import Target
from runpod_flash.gateway.token import Key
from runpod_flash.web import offline, trust

PREFIX: Final = "/lb/"
_ASK_FOR_TOKEN: Final = ("www-authenticate", 'Bearer realm="flash"')
_READING: Final = frozenset({"GET", "HEAD"})


class Answerer(NamedTuple):
    """The function that answers. `path` is below the endpoint, `prefix` is what stands above it."""

    function: Function
    params: Mapping[str, str]
    path: str
    prefix: str
    # Why it was this one.
    endpoint: str
    routes: Routes[Function]


class Place(NamedTuple):
    """Which endpoint is meant, and what of it."""

    endpoint: str
    path: str
    prefix: str


class Directory:
    """Finds who answers."""

    def __init__(self, exchanges: Exchanges, key: Key) -> None:
        self._exchanges = exchanges
        self._key = key

    def find(self, method: str, host: str, target: Target, authorization: bytes) -> Answerer | Operation | Port | Reply:
        """`host` is trusted already, and in lower case."""
        if target.path.startswith(verbs.PREFIX) and not trust.endpoint_of(host):
            return verbs.find(method, target.path, authorization, self._key)
        if target.path == verbs.GRAPHQL and not trust.endpoint_of(host):
            return verbs.find_graphql(method, authorization, self._key)
        if offline.is_asset(target.path) and method in _READING and not target.path.startswith(ports.PREFIX):
            return _asset(target.path)
        place = _place(host, target.path)
        may = self._key.fits(authorization)
        if place is None:
            if target.path.startswith(ports.PREFIX):
                return ports.find(self._exchanges, target.path) if may else _unauthorized(authorization)
            return self._own(method, target.path, may=may)
        endpoints = self._exchanges.named(place.endpoint)
        endpoint = endpoints[0] if len(endpoints) == 1 else None
        if endpoint is not None:
            routes = self._exchanges.routes(endpoint)
            found = routes.find(method, place.path)
            if found is not None and may:
                return Answerer(found.target, found.params, place.path, place.prefix, place.endpoint, routes)
            if found is None and method in _READING:
                shown = pages.of_endpoint(self._exchanges, endpoint, place.path, place.prefix)
                if shown is not None:
                    return shown
        if not may:
            if endpoint is not None and method in _READING and place.path == PING:
                return Reply(200 if self._exchanges.is_ready(endpoint) else 204)
            return _unauthorized(authorization)
        return self._refuse(method, place, endpoints)

    def still_finds(self, answerer: Answerer) -> bool:
        """Whether the same request would be answered by the same function."""
        endpoints = self._exchanges.named(answerer.endpoint)
        return len(endpoints) == 1 and endpoints[0].routes is answerer.routes

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _own(self, method: str, path: str, *, may: bool) -> Reply:
        shown = pages.of_gateway(self._exchanges, path, may=may)
        if shown is None:
            return refusal(404, f"nothing is here: endpoints are at {PREFIX}NAME/… and /v2/NAME/run, and / lists them")
        if method not in _READING:
            return _not_allowed(method, ["GET", "HEAD"])
        return shown

    def _refuse(self, method: str, place: Place, endpoints: Sequence[Endpoint]) -> Reply:
        if not endpoints:
            return self._unknown(place.endpoint)
        if len(endpoints) > 1:
            return _ambiguous(place, endpoints)
        routes = self._exchanges.routes(endpoints[0])
        if allowed := routes.allowed(place.path):
            return _not_allowed(method, allowed)
        served = [f"{route.method} {route.path}" for fn in endpoints[0].served.values() for route in fn.spec.routes]
        if not served:
            return refusal(
                404,
                f"endpoint {place.endpoint!r} has no function: none was called yet, or it was undeployed "
                "(`flash rollback` brings that back)",
            )
        return refusal(404, f"endpoint {place.endpoint!r} has nothing at {place.path}", routes=sorted(served))

    def _unknown(self, name: str) -> Reply:
        known = [one.spec.name for one in self._exchanges.endpoints()]
        return refusal(404, f"there is no load-balanced endpoint {name!r}.{did_you_mean(name, known)}")


def _place(host: str, path: str) -> Place | None:
    if path.startswith(PREFIX):
        name, slash, rest = path[len(PREFIX) :].partition("/")
        return Place(name, slash + rest or "/", PREFIX + name) if name else None
    name = trust.endpoint_of(host)
    return Place(name, path, "") if name else None


def _asset(path: str) -> Reply:
    """What the pages of an application that is served here load; the same for all of them, and no secret."""
    found = offline.asset(path)
    if found is None:
        return refusal(404, f"the pages of documentation have no {path.rpartition('/')[2]!r}")
    return Reply(200, (("content-type", found.kind), ("cache-control", offline.CACHED)), found.body)


def _unauthorized(authorization: bytes) -> Reply:
    why = "the token is not this engine's" if authorization else "a token is needed: Authorization: Bearer …"
    return refusal(401, f"{why}; `flash engine token` prints it", (_ASK_FOR_TOKEN,))


def _not_allowed(method: str, allowed: list[str]) -> Reply:
    allow = ("allow", ", ".join(allowed))
    if method == "OPTIONS":
        return Reply(204, (allow,))
    return refusal(405, f"{method} is not answered here, but {', '.join(allowed)}", (allow,))


def _ambiguous(place: Place, endpoints: Sequence[Endpoint]) -> Reply:
    choices = [
        {
            "endpoint": one.spec.id,
            "app": one.spec.app,
            "env": one.spec.env,
            "path": f"{PREFIX}{one.spec.id}{place.path}",
        }
        for one in endpoints
    ]
    return refusal(
        404, f"{len(endpoints)} endpoints are named {place.endpoint!r}: say which by its id", choices=choices
    )
