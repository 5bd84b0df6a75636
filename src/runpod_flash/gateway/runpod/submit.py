"""/run and /runsync: a job comes in."""

from __future__ import annotations

from typing import Final

from runpod_flash.engine.program_jobs import SYNC
from runpod_flash.engine.records import Function
from runpod_flash.gateway.runpod import body, rendering
from runpod_flash.gateway.runpod.request import Refused, Request

_WAIT_MS: Final = 90_000
_LONGEST_WAIT_MS: Final = 300_000


def run(request: Request) -> None:
    """Puts a job on record."""
    fn = function(request)
    found = body.read(request.body, request.header(b"content-type"))
    asked = body.job(found, fn, body.new_id())
    request.jobs.accept(fn, asked, request, b'{"id":"%b","status":"IN_QUEUE"}' % asked.id.encode())


def runsync(request: Request) -> None:
    """Puts a job on record, and answers when it has ended, or with how it stands after a while."""
    fn = function(request)
    seconds = wait_of(request)
    found = body.read(request.body, request.header(b"content-type"))
    asked = body.job(found, fn, body.new_id(SYNC))
    jobs = request.jobs
    jobs.submit(fn, asked, request, lambda: jobs.follow(asked.id, request, rendering.status, seconds), awaited=True)


def wait_of(request: Request) -> float:
    """Seconds that the client wants to wait; it says milliseconds."""
    if not request.query:
        return _WAIT_MS / 1000
    said = request.fields.get("wait", "")
    if said and not (said.isdecimal() and said.isascii() and len(said) < 12):
        raise Refused(400, f"wait={said[:80]!r} is no number of milliseconds")
    return min(int(said or _WAIT_MS), _LONGEST_WAIT_MS) / 1000


def function(request: Request) -> Function:
    """The function that is meant: the endpoint's only one, or the one that is named; Refused lists them."""
    endpoint = request.queue()
    served = endpoint.served
    if endpoint.spec.is_withdrawn:
        raise Refused(404, f"endpoint {endpoint.spec.name!r} was taken away: flash serve brings it back")
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
