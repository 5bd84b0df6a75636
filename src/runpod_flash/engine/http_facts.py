"""How an endpoint stands, in the counts of Runpod's protocol; counted in the reading thread, seldom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runpod_flash.engine.records import Endpoint, Pool
from runpod_flash.engine.state import State
from runpod_flash.model.job import JobState, JobStatus

_FRESH_S: Final = 1.0
"""How long a count is as good as a new one: many ask, and the table may be long."""
_COUNT: Final = """SELECT state, count(*) AS jobs, total(attempt > 1) AS again FROM jobs
                   WHERE pool_id IN ({}) GROUP BY state"""
_LIST: Final = """SELECT seq, id, state, attempt, worker, created_ms, started_ms, ended_ms FROM jobs
                  WHERE pool_id IN ({}) AND state IN ({}) AND seq < ? ORDER BY seq DESC LIMIT ?"""
_STATES: Final = tuple(range(len(JobState)))

Facts = dict[str, Any]


class HttpFacts:
    """Counts jobs and workers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._counted: dict[int, tuple[float, Facts]] = {}

    def workers(self, endpoint: Endpoint) -> dict[str, int]:
        """How many workers are in which state."""
        states = [worker.state for pool in endpoint.pools for worker in pool.workers.values()]
        idle, running = states.count("idle"), states.count("busy")
        return {
            "idle": idle,
            "initializing": states.count("starting"),
            "ready": idle,
            "running": running,
            "throttled": sum(1 for pool in endpoint.pools if pool.wait_code and not pool.workers),
            "unhealthy": sum(1 for pool in endpoint.pools if pool.failed_starts),
        }

    def ready(self, endpoint: Endpoint) -> list[str]:
        """The workers that take jobs."""
        each = (worker for pool in endpoint.pools for worker in pool.workers.values())
        return [worker.id for worker in each if worker.state in {"idle", "busy"}]

    def trouble(self, endpoint: Endpoint) -> str:
        """Why its jobs wait, or its workers do not start; "" for no reason."""
        return next((why for pool in endpoint.pools if (why := pool.last_error or pool.why)), "")

    def jobs(self, endpoint: Endpoint, then: Callable[[Facts], None], failed: Callable[[Exception], None]) -> None:
        """Calls back with the number of jobs: completed, failed, inProgress, inQueue, retried."""
        now = self._state.clock.monotonic()
        at, facts = self._counted.get(endpoint.id, (0.0, {}))
        if facts and now - at < _FRESH_S:
            then(facts)
            return
        query = _COUNT.format(_ids(endpoint.pools))

        def counted(rows: list[Facts] | None, error: Exception | None) -> None:
            if rows is None:
                failed(error or RuntimeError("nothing was counted"))
                return
            facts = _counts(rows)
            if len(self._counted) > len(self._state.endpoints):
                self._counted.clear()
            self._counted[endpoint.id] = now, facts
            then(facts)

        self._state.turn.in_thread(lambda: self._state.store.read(query), counted)

    def listed(
        self,
        endpoint: Endpoint,
        status: str,
        before: int,
        limit: int,
        then: Callable[[list[Facts]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Calls back with jobs, the newest first, `limit` at most; `status` "" is any."""
        states = [one for one in _STATES if not status or JobState(one).status == status]
        query = _LIST.format(_ids(endpoint.pools), ",".join(map(str, states)))

        def found(rows: list[Facts] | None, error: Exception | None) -> None:
            if rows is None:
                failed(error or RuntimeError("nothing was found"))
            else:
                then(rows)

        self._state.turn.in_thread(lambda: self._state.store.read(query, (before, limit)), found)


def _ids(pools: list[Pool]) -> str:
    return ",".join(str(pool.id) for pool in pools)


def _counts(rows: list[Facts]) -> Facts:
    by_status: dict[str, int] = {}
    for row in rows:
        status = JobState(row["state"]).status
        by_status[status] = by_status.get(status, 0) + row["jobs"]
    return {
        "completed": by_status.get(JobStatus.COMPLETED, 0),
        "failed": by_status.get(JobStatus.FAILED, 0) + by_status.get(JobStatus.TIMED_OUT, 0),
        "inProgress": by_status.get(JobStatus.IN_PROGRESS, 0),
        "inQueue": by_status.get(JobStatus.IN_QUEUE, 0),
        "retried": int(sum(row["again"] for row in rows)),
    }
