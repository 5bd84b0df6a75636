"""Requests that ask for a certain worker, by the header that every answer of an application or a program has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from runpod_flash.engine.records import Pool, Request
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import ErrorInfo

HEADER: Final = "x-runpod-worker-id"
STRICT_S: Final = 300.0
"""How long a request waits for a worker that it insists on."""
WAIT_S: Final = 120.0
"""How long any request waits that an application or a program shall answer."""
_STRICT: Final = frozenset({"strict", "strict-resume"})


class Wanted(NamedTuple):
    """The worker that is asked for; `strict`: no other will do."""

    worker: str = ""
    strict: bool = False


class WorkerGone(Exception):
    """There is no such worker, or none any more."""


NOBODY_WANTED: Final = Wanted()


def wanted_by(headers: Iterable[tuple[str, str]]) -> Wanted:
    """`<id>`, `strict <id>` or `strict-resume <id>`; workers that have ended do not come back, so the two are one."""
    for name, value in headers:
        if name == HEADER:
            first, _, second = value.strip().partition(" ")
            strict = first.lower() in _STRICT and bool(second)
            return Wanted(second.strip() if strict else first, strict)
    return NOBODY_WANTED


def is_there(pool: Pool, worker: str) -> bool:
    """Whether a worker will take requests, now or soon."""
    found = pool.workers.get(worker)
    return found is not None and found.state in {"starting", "idle", "busy"}


def too_long(request: Request, now: float) -> ErrorInfo | None:
    """Why a request need not wait for a worker any more; None if it may."""
    pool, waited = request.fn.pool, now - request.asked_at
    if request.strict:
        if not is_there(pool, request.wanted):
            return gone(request.wanted)
        if waited > STRICT_S:
            message = f"the worker {request.wanted} had no room within {STRICT_S:g} s"
            return ErrorInfo(type="WorkerTimeout", message=message, kind=ErrorKind.TIMEOUT)
    elif pool.serves and waited > WAIT_S:
        starting = any(worker.state == "starting" for worker in pool.workers.values())
        why = pool.last_error or pool.why or ("a worker is starting" if starting else "all workers are busy")
        message = f"no workers available: none had room within {WAIT_S:g} s\n{why}"
        return ErrorInfo(type="WorkerLost", message=message, kind=ErrorKind.ENV)
    return None


def gone(worker: str) -> ErrorInfo:
    """What is answered where somebody insists on a worker that is not there."""
    return ErrorInfo(type="WorkerGone", message=f"there is no worker {worker} here any more", kind=ErrorKind.LOST)
