"""Why nothing runs: what the jobs of a pool wait for, as data for programs and as a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runpod_flash.engine.records import Pool
from runpod_flash.engine.state import State
from runpod_flash.model.job import JobState


class Reason(NamedTuple):
    """What a pool's jobs wait for.

    `code`: environment | backoff | workers_max | gpu | memory | machine_full (what the plan says) | host | draining |
    starting | busy | delayed. `until_ms`: when it ends at the latest, where that is known. Wall clock milliseconds.
    """

    code: str
    why: str
    since_ms: int | None = None
    until_ms: int | None = None
    detail: dict[str, Any] = {}  # noqa: RUF012 - never written to


class Delayed(NamedTuple):
    """Jobs that wait for their time, and when the first of them is due."""

    number: int
    next_ms: int


def reason_of(state: State, pool: Pool, delayed: Delayed | None) -> Reason | None:
    """What the jobs or requests of `pool` wait for; None if none of them waits."""
    if pool.waiting:
        return _of_queued(state, pool)
    if pool.failed_starts and not _is_replaced(pool) and not any(worker.ready_at for worker in pool.workers.values()):
        return _of_failures(state, pool)
    return _of_delayed(state, delayed) if delayed else None


def reason_of_job(state: State, row: Mapping[str, Any], now: JobState, pool: Pool | None) -> Reason | None:
    """What one job waits for, by its row; None if it runs or has ended."""
    if now is JobState.DELAYED:
        seconds = max(0, row["ready_ms"] - state.clock.wall_ms()) / 1000
        what = "its next attempt, after a failure" if row["attempt"] else "its time, as asked for"
        return Reason("delayed", f"waiting for {what}: in {seconds:.0f} s", until_ms=row["ready_ms"])
    if now is JobState.ASSIGNED:
        return Reason("busy", "in line behind another call of its worker")
    return _of_queued(state, pool) if now is JobState.READY and pool else None


def told_of(reason: Reason | None) -> dict[str, Any] | None:
    """The same as a row tells it."""
    if reason is None:
        return None
    return {
        "code": reason.code,
        "why": reason.why,
        "since_at_ms": reason.since_ms,
        "until_at_ms": reason.until_ms,
        "detail": dict(reason.detail),
    }


def _of_queued(state: State, pool: Pool) -> Reason:
    if state.draining:
        return Reason("draining", "the engine is leaving and starts nothing new; the next one goes on from here")
    if state.host is None or state.host.link is None:
        since = _wall(state, state.host.seen_at) if state.host else None
        return Reason("host", "waiting for the host, the program that starts workers: it is not there", since)
    if pool.endpoint.spec.is_withdrawn:
        return Reason("workers_max", "nobody serves it any more: flash serve brings it back")
    environment = pool.environment
    if environment.state == "building":
        line = environment.lines[-1] if environment.lines else ""
        words = "waiting for its environment, which is being built"
        return Reason("environment", words, _wall(state, environment.asked_at), detail={"line": line})
    if pool.wait_code:
        return _of_plan(state, pool)
    return _of_workers(state, pool)


def _of_plan(state: State, pool: Pool) -> Reason:
    since = _wall(state, pool.waits_since)
    if pool.wait_code == "gpu":
        leases = [
            {"gpu": gpu, "worker": worker.id, "endpoint": worker.pool.endpoint.spec.name}
            for worker in state.workers.values()
            for gpu in worker.gpus
        ]
        return Reason("gpu", pool.why, since, detail={"leases": sorted(leases, key=lambda one: int(str(one["gpu"])))})
    if pool.wait_code == "backoff":
        error = _last_line(pool)
        words = f"{pool.why}: {error}" if error else pool.why
        return Reason("backoff", words, since, _wall(state, pool.blocked_until), _failures(pool))
    return Reason(pool.wait_code, pool.why, since)


def _of_workers(state: State, pool: Pool) -> Reason:
    """Nothing stands in the way: a worker is on its way, or those that are there come to it."""
    starting = [worker.launched_at for worker in pool.workers.values() if worker.state == "starting"]
    hands = sum(1 for worker in pool.workers.values() if worker.state in {"idle", "busy"})
    if starting and not hands:
        return Reason("starting", "a worker is starting", _wall(state, min(starting)))
    whose = "its worker is" if hands == 1 else f"its {hands} workers are"
    words = f"in line: {whose} busy" if hands else "in line: a worker is about to start"
    return Reason("busy" if hands else "starting", words)


def _is_replaced(pool: Pool) -> bool:
    """Whether another version of what it serves answers by now."""
    return pool.serves and not any(fn.pool is pool for fn in pool.endpoint.served.values())


def _of_failures(state: State, pool: Pool) -> Reason:
    """Nobody waits, but whoever comes will: its workers end before they have done anything."""
    many = pool.failed_starts > 1
    who = f"its last {pool.failed_starts} workers ended by themselves" if many else "its last worker ended by itself"
    words = f"{who}: {_last_line(pool)}"
    return Reason("backoff", words, until_ms=_wall(state, pool.blocked_until), detail=_failures(pool))


def _failures(pool: Pool) -> dict[str, Any]:
    return {"error": _last_line(pool), "failed_starts": pool.failed_starts}


def _last_line(pool: Pool) -> str:
    return next((line.strip() for line in reversed(pool.last_error.splitlines()) if line.strip()), "")


def _of_delayed(state: State, delayed: Delayed) -> Reason:
    seconds = max(0, delayed.next_ms - state.clock.wall_ms()) / 1000
    which = "1 job waits" if delayed.number == 1 else f"{delayed.number} jobs wait"
    first = "it is due" if delayed.number == 1 else "the first is due"
    words = f"{which} for a later time, as asked for or after a failure; {first} in {seconds:.0f} s"
    return Reason("delayed", words, until_ms=delayed.next_ms)


def _wall(state: State, monotonic: float) -> int | None:
    if not monotonic:
        return None
    return state.clock.wall_ms() + round((monotonic - state.clock.monotonic()) * 1000)
