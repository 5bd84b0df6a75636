"""/cancel, /retry and /purge-queue: what becomes of jobs."""

from __future__ import annotations

from typing import Any, Final

from runpod_flash.engine.http_jobs import Told
from runpod_flash.errors import EngineRefused
from runpod_flash.gateway.runpod.follow import no_job
from runpod_flash.gateway.runpod.request import Refused, Request
from runpod_flash.model.job import TERMINAL_STATUSES, JobStatus

_CANCEL_S: Final = 2.0
"""How long a client waits for a function to end; clients of Runpod give up after three."""


def cancel(request: Request) -> None:
    """Ends a job. One that has ended already stays as it is, and is told as such."""
    if not request.jobs.cancel(request.queue(), request.rest, request, _cancelled, _CANCEL_S):
        raise no_job(request)


def _cancelled(told: Told) -> bytes:
    """A function that has not ended within the time will be ended: it is as good as cancelled."""
    status = told.status if told.status in TERMINAL_STATUSES else JobStatus.CANCELLED
    return b'{"id":"%b","status":"%b"}' % (told.id.encode(), status.encode())


def retry(request: Request) -> None:
    """Runs a job that FAILED or TIMED_OUT once more, under its id."""
    answer = b'{"id":"%b","status":"IN_QUEUE"}' % request.rest.encode()
    before = request.jobs.retry(request.queue(), request.rest, request, answer)
    if not before:
        raise no_job(request)
    if before not in (JobStatus.FAILED, JobStatus.TIMED_OUT):
        raise Refused(400, f"job {request.rest} is {before}: only jobs that FAILED or TIMED_OUT can be tried again")


def purge_queue(request: Request) -> None:
    """Ends every job that waits; those that run are left alone."""
    endpoint = request.queue()

    def done(report: dict[str, Any], error: Exception | None) -> None:
        if error is not None:
            request.fail(EngineRefused("the queue could not be purged", why=str(error)))
        else:
            request.reply(200, {"removed": report["jobs"], "status": "completed"})

    request.jobs.purge({"endpoint": endpoint.spec.id}, done)
