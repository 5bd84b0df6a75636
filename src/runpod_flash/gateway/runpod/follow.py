"""/status, /status-sync and /stream: how a job stands."""

from __future__ import annotations

from runpod_flash.gateway.runpod import rendering
from runpod_flash.gateway.runpod.request import Refused, Request


def status(request: Request) -> None:
    """How a job stands now."""
    if not request.jobs.tell(request.endpoint(), request.rest, request, rendering.status):
        raise no_job(request)


def no_job(request: Request) -> Refused:
    """There is none of that id on that endpoint."""
    if not request.rest:
        return Refused(404, "the path names no job: its id goes behind the operation")
    return Refused(
        404,
        f"there is no job {request.rest[:80]!r} here: its id is wrong, of another endpoint, or of long ago",
    )
