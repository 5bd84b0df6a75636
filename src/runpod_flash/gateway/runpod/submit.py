"""/run and /runsync: a job comes in."""

from __future__ import annotations

from runpod_flash.engine.records import Endpoint, Function
from runpod_flash.gateway.runpod import body
from runpod_flash.gateway.runpod.request import Refused, Request


def run(request: Request) -> None:
    """Puts a job on record."""
    fn = function(request)
    found = body.read(request.body, request.header(b"content-type"))
    asked = body.job(found, fn, body.new_id())
    request.jobs.accept(fn, asked, request, b'{"id":"%b","status":"IN_QUEUE"}' % asked.id.encode())


def function(request: Request) -> Function:
    """The function that is meant: the endpoint's only one, or the one that is named; Refused lists them."""
    endpoint = request.endpoint()
    served = endpoint.served
    if endpoint.spec.kind == "lb":
        raise Refused(400, f"endpoint {endpoint.spec.name!r} is load-balanced, not for jobs: ask it at {_lb(endpoint)}")
    name = request.operation.function or request.header(b"x-flash-function").decode("utf-8", "replace")
    if name:
        found = [one for full, one in served.items() if name in (full, full.rpartition(":")[2])]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} functions are named {name!r}" if found else f"there is no function {name!r}"
        raise Refused(404, f"{what} on endpoint {endpoint.spec.name!r}", functions=sorted(served))
    if len(served) == 1:
        return next(iter(served.values()))
    if not served:
        raise Refused(404, f"endpoint {endpoint.spec.name!r} has no function: run the program that declares one")
    place = f"/v2/{request.operation.place}:NAME/run"
    raise Refused(
        400,
        f"endpoint {endpoint.spec.name!r} has {len(served)} functions: say which at {place}, or in X-Flash-Function",
        functions=sorted(served),
    )


def _lb(endpoint: Endpoint) -> str:
    return f"/lb/{endpoint.spec.id}/…"
