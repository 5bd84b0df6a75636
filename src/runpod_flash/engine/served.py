"""Which functions of an endpoint are asked over HTTP: of those at one route the one that was declared last."""

from __future__ import annotations

from runpod_flash.engine.records import Endpoint, Function
from runpod_flash.errors import ConfigError
from runpod_flash.model.options import canonical
from runpod_flash.wire.messages import FunctionSpec, Route


def serve(function: Function) -> None:
    """From here on it is asked over HTTP, instead of its last version and of whoever had its routes before."""
    if not function.spec.routes and not function.spec.takes_json:
        return
    endpoint = function.pool.endpoint
    for other in _same_routes(endpoint, function.spec):
        del endpoint.served[other.spec.name]
    endpoint.served.pop(function.spec.name, None)
    endpoint.served[function.spec.name] = function
    endpoint.routes = None


def _same_routes(endpoint: Endpoint, spec: FunctionSpec) -> list[Function]:
    """Other functions of the endpoint at the same method and path."""
    mine = {(route.method, canonical(route.path)) for route in spec.routes}
    return [
        other
        for name, other in endpoint.served.items()
        if name != spec.name and any((route.method, canonical(route.path)) in mine for route in other.spec.routes)
    ]


def check(endpoint: Endpoint | None, spec: FunctionSpec) -> None:
    """ConfigError for two functions on one route, unless nobody declares the other one any more."""
    for other in _same_routes(endpoint, spec) if endpoint and spec.routes else ():
        if other.holders or other.pool.endpoint.spec.origin == "deployed":
            raise clash(other.pool.endpoint.spec.name, spec.routes[0], other.spec, spec)


def clash(endpoint: str, route: Route, one: FunctionSpec, other: FunctionSpec) -> ConfigError:
    """Two functions of an endpoint cannot answer there."""
    return ConfigError(
        f"two functions of the endpoint {endpoint!r} want to answer {route.method} {route.path}: "
        f"{_located(one)} and {_located(other)}",
        why="a request can go to one of them only",
        fix="give one another path, in @remote(…, path='/…'), or put it on a resource of another name",
    )


def _located(spec: FunctionSpec) -> str:
    return f"{spec.name} ({spec.where})" if spec.where else spec.name
