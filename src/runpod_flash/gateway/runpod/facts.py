"""/health, /metrics and /requests: how an endpoint stands."""

from __future__ import annotations

from typing import Any, Final

from runpod_flash.errors import EngineRefused
from runpod_flash.gateway.runpod.request import Refused, Request
from runpod_flash.model.job import STATUSES, JobState

_MOST: Final = 1000
_USUAL: Final = 100
_NEWEST: Final = 1 << 62


def health(request: Request) -> None:
    """How many jobs and workers there are, by what they do."""
    endpoint = request.queue()

    def counted(jobs: dict[str, Any]) -> None:
        facts = {"jobs": jobs, "workers": request.jobs.facts.workers(endpoint)}
        why = request.jobs.facts.trouble(endpoint)
        request.reply(200, {**facts, "reason": why} if why else facts)

    request.jobs.facts.jobs(endpoint, counted, lambda error: _failed(request, error))


def metrics(request: Request) -> None:
    """Which workers are ready, and how many there are."""
    facts, endpoint = request.jobs.facts, request.queue()
    request.reply(200, {"readyWorkers": facts.ready(endpoint), "workers": facts.workers(endpoint)})


def requests(request: Request) -> None:
    """The endpoint's jobs, the newest first: `status`, `limit`, and `cursor` for the next page."""
    fields = request.fields
    status, limit, cursor = fields.get("status", "").upper(), fields.get("limit", ""), fields.get("cursor", "")
    if status and status not in STATUSES:
        raise Refused(400, f"there is no status {status[:40]!r}: {', '.join(STATUSES)}")
    for name, said in (("limit", limit), ("cursor", cursor)):
        if said and not (said.isdecimal() and said.isascii() and len(said) < 19):
            raise Refused(400, f"{name}={said[:40]!r} is no number")
    most = max(1, min(int(limit or _USUAL), _MOST))

    def found(rows: list[dict[str, Any]]) -> None:
        answer: dict[str, Any] = {"requests": [_told(row) for row in rows]}
        if len(rows) == most:
            answer["cursor"] = str(rows[-1]["seq"])
        request.reply(200, answer)

    request.jobs.facts.listed(
        request.queue(), status, int(cursor or _NEWEST), most, found, lambda error: _failed(request, error)
    )


def _told(row: dict[str, Any]) -> dict[str, Any]:
    started, ended = row["started_ms"], row["ended_ms"]
    return {
        "id": row["id"],
        "status": JobState(row["state"]).status,
        "createdAt": row["created_ms"],
        "delayTime": max(0, (started or ended or row["created_ms"]) - row["created_ms"]),
        "executionTime": max(0, ended - started) if started and ended else 0,
        "workerId": row["worker"] or "",
        "retries": max(0, row["attempt"] - 1),
    }


def _failed(request: Request, error: Exception) -> None:
    request.fail(EngineRefused("the store cannot be read", why=str(error)))
