"""/status, /status-sync and /stream: how a job stands, and what it has yielded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from runpod_flash.engine.http_jobs import Told
from runpod_flash.gateway.runpod import rendering
from runpod_flash.gateway.runpod.request import Refused, Request
from runpod_flash.gateway.runpod.submit import wait_of
from runpod_flash.model.job import JobStatus
from runpod_flash.wire.frame import Buffer

_EMPTY_POLLS: Final = 3
"""Looks at the stream of a cancelled job after which it is gone: Runpod's client would look for ever."""
_REMEMBERED: Final = 10_000
_looked_at: Final[OrderedDict[str, int]] = OrderedDict()


def status(request: Request) -> None:
    """How a job stands now."""
    if not request.jobs.tell(request.queue(), request.rest, request, rendering.status):
        raise no_job(request)


def status_sync(request: Request) -> None:
    """How a job stands once it has ended, or after a while."""
    seconds = wait_of(request)
    if not request.jobs.wait(request.queue(), request.rest, request, rendering.status, seconds):
        raise no_job(request)


def stream(request: Request) -> None:
    """What a job has yielded since somebody looked last; with `from=N`, all from the N-th on, as often as one likes."""
    said = request.fields.get("from", "") if request.query else ""
    if said and not (said.isdecimal() and said.isascii() and len(said) < 12):
        raise Refused(400, f"from={said[:80]!r} is no number of an item")
    first = int(said) if said else None
    if first is None and _looked_at.get(request.rest, 0) >= _EMPTY_POLLS:
        raise Refused(404, f"job {request.rest} was cancelled: nothing more comes of it")
    if not request.jobs.items(request.queue(), request.rest, request, _items, first):
        raise no_job(request)


def _items(told: Told, items: Sequence[Buffer]) -> bytes:
    if told.status == JobStatus.CANCELLED and not items:
        _looked_at[told.id] = _looked_at.get(told.id, 0) + 1
        if len(_looked_at) > _REMEMBERED:
            _looked_at.popitem(last=False)
    listed = b",".join(b'{"output":%b}' % bytes(item) for item in items)
    return b'{"status":"%b","stream":[%b]}' % (told.status.encode(), listed)


def no_job(request: Request) -> Refused:
    """There is none of that id on that endpoint."""
    if not request.rest:
        return Refused(404, "the path names no job: its id goes behind the operation")
    return Refused(
        404, f"there is no job {request.rest[:80]!r} here: its id is wrong, of another endpoint, or of long ago"
    )
