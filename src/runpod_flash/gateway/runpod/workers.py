"""What programs ask that work for an endpoint: job-take, job-take-batch, job-stop, job-done, job-stream, ping.

A poll is held until there is something to say, for an empty answer at once has a real worker ask again at once, some
thousand times a second. What has a body is answered when it is on record. Each worker shows a key of its own, and is
heard only about itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

from runpod_flash.engine.http_jobs import HttpJobs
from runpod_flash.engine.program_jobs import Given
from runpod_flash.engine.program_link import ProgramLink
from runpod_flash.engine.records import Worker
from runpod_flash.errors import EngineRefused
from runpod_flash.gateway.runpod.request import Refused, Request
from runpod_flash.gateway.runpod.results import NotJson, read_item, read_result
from runpod_flash.wire.messages import ErrorInfo

HOLD_S: Final = 50.0
"""How long a poll is held; workers give it up after 90."""
LEAVING_S: Final = 0.5
"""The same for a worker that is being ended, and ends when its polls have."""
FORGED_S: Final = 1.0
"""A stranger's poll is held before it is refused, too: a worker of yesterday would come back at once."""
MOST_AT_ONCE: Final = 1000


# ── polls ─────────────────────────────────────────────────────────────────────────────────────────


class Held:
    """A poll that waits for something to say."""

    def __init__(self, request: Request, link: ProgramLink, room: int = 0) -> None:
        self.room = room
        self._request = request
        self._link = link
        self._timer = asyncio.get_running_loop().call_later(LEAVING_S if link.leaving else HOLD_S, self._expire)
        request.gone = self._gone

    def answer(self, data: bytes) -> None:
        """What it waited for, as JSON text."""
        self._timer.cancel()
        self._request.send(data)

    def nothing(self) -> None:
        """It may ask again."""
        self._timer.cancel()
        self._request.empty(204)

    def later(self) -> None:
        """It shall ask again after a while: workers take five seconds."""
        self._timer.cancel()
        self._request.refuse(429, "the engine is away for a moment", (("retry-after", "1"),))

    def _expire(self) -> None:
        self._request.jobs.guarded(lambda: self._link.drop(self))
        self.nothing()

    def _gone(self) -> None:
        self._timer.cancel()
        self._request.jobs.guarded(lambda: self._link.drop(self))


def take(request: Request) -> None:
    """A job, once there is one."""
    _take(request, 1)


def take_batch(request: Request) -> None:
    """As many jobs as there are, at least one, and at most as many as were asked for."""
    asked = request.fields.get("batch_size", "1")
    if not asked.isdecimal() or not int(asked):
        raise Refused(400, f"batch_size={asked[:40]!r} is no number of jobs")
    _take(request, min(int(asked), MOST_AT_ONCE))


def _take(request: Request, room: int) -> None:
    if (link := _polls(request)) is not None:
        link.take(Held(request, link, room), idle=request.fields.get("job_in_progress") == "0")


def stop(request: Request) -> None:
    """Which of its jobs a worker shall stop, once there are any."""
    if (link := _polls(request)) is not None:
        link.watch_stops(Held(request, link))


def _polls(request: Request) -> ProgramLink | None:
    """The link of the worker that asks; None if it is none of ours, which it is told after a while."""
    try:
        link = _link(request, request.rest)
    except Refused as error:
        held = error
        timer = asyncio.get_running_loop().call_later(FORGED_S, lambda: request.fail(held))
        request.gone = timer.cancel
        return None
    if link.away:
        request.refuse(429, "the engine is leaving; the next one is on its way", (("retry-after", "1"),))
        return None
    return link


# ── results ───────────────────────────────────────────────────────────────────────────────────────


def done(request: Request) -> None:
    """A job has ended, or says how far it is. What comes late or twice changes nothing."""
    link, given = _job(request)
    try:
        result = read_result(request.body)
    except NotJson as error:
        raise Refused(400, str(error)) from None
    programs = request.jobs.programs
    if given is None or given.finishing:
        request.reply(200, {"recorded": False})
    elif result.progress is not None:
        link.progress(given, result.progress)
        _acknowledge(request, link)
    else:
        programs.done(link, given, result.output, result.error, request)
    if result.refresh:
        programs.refresh(link.state)


def done_too_large(jobs: HttpJobs, rest: str, authorization: bytes, error: ErrorInfo) -> None:
    """A result came that is larger than any body may be."""
    name, _, job = rest.partition("/")
    key = _key(authorization)
    worker = jobs.programs.worker(name, key)
    link = jobs.programs.link(worker, key) if worker is not None else None
    if link is not None and (given := link.given.get(job)) is not None and not given.finishing:
        link.done(given, error=error)


def stream(request: Request) -> None:
    """A job has yielded something."""
    link, given = _job(request)
    try:
        item = read_item(request.body)
    except NotJson as error:
        raise Refused(400, str(error)) from None
    if given is None or given.finishing or item is None:
        request.reply(200, {"recorded": False})
    else:
        link.item(given, item)
        _acknowledge(request, link)


def _acknowledge(request: Request, link: ProgramLink) -> None:
    request.jobs.programs.acknowledge(link, request)


def ping(request: Request) -> None:
    """A sign of life, which names the jobs that the worker has; or that it ends, because it is not well."""
    worker, key = _worker(request, request.rest)
    said = request.fields
    if said.get("status") == "unhealthy":
        request.jobs.programs.unwell(worker, said.get("check", "")[:80], said.get("reason", "")[:256])
    else:
        jobs = [job.strip() for job in said.get("job_id", "").split(",")]
        request.jobs.programs.ping(worker, key, jobs)
    request.reply(200, {})


# ── who asks ──────────────────────────────────────────────────────────────────────────────────────


def _worker(request: Request, name: str) -> tuple[Worker, str]:
    """The worker that a path names, and its key; Refused if whoever asks is not that worker."""
    key = _key(request.authorization)
    worker = request.jobs.programs.worker(name, key)
    if worker is None:
        raise Refused(401, "there is no worker of that id and key: each shows the RUNPOD_AI_API_KEY that it was given")
    spec = worker.pool.endpoint.spec
    if request.operation.place not in (spec.id, spec.name):
        raise Refused(403, f"worker {name!r} works for another endpoint: {spec.id}")
    return worker, key


def _key(authorization: bytes) -> str:
    """What a header shows, with `Bearer` or alone."""
    scheme, _, rest = authorization.decode("latin-1").strip().partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else f"{scheme} {rest}".strip()


def _link(request: Request, name: str) -> ProgramLink:
    link = request.jobs.programs.link(*_worker(request, name))
    if link is None:
        raise EngineRefused("the engine takes nobody in just now", fix="ask again in a second")
    return link


def _job(request: Request) -> tuple[ProgramLink, Given | None]:
    """The link of the worker that a path names, and the job behind that, if the worker has it."""
    name, _, job = request.rest.partition("/")
    if not job:
        raise Refused(400, "the path names no job: it is /job-done/WORKER/JOB")
    link = _link(request, name)
    if link.away:
        raise EngineRefused("the engine is leaving", fix="send it again: the next one takes it")
    return link, link.given.get(job)
