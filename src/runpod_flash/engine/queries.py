"""What people ask: rows for `flash jobs`, `job`, `ps`, `logs` and `status`.

Statements run on the reading connection in another thread, so a long listing holds nobody up; what only memory
knows (who runs what right now) is laid over the rows in the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from runpod_flash.engine.outcomes import out_head_of, timing_of
from runpod_flash.engine.records import Active, Endpoint, Worker
from runpod_flash.engine.state import State
from runpod_flash.errors import ConfigError, JobNotFound
from runpod_flash.model.job import STATUSES, JobState
from runpod_flash.wire import logfile
from runpod_flash.wire.messages import Query, Rows

Read = Callable[[], list[dict[str, Any]]]

_decode = msgspec.json.decode
_LISTED: Final = """j.seq, j.id, j.state, j.attempt, j.worker, j.created_ms, j.started_ms, j.assigned_ms,
                    j.ended_ms, j.error, f.name AS fn, e.spec AS endpoint
                    FROM jobs j JOIN functions f ON f.id = j.fn JOIN pools p ON p.id = j.pool_id
                    JOIN endpoints e ON e.id = p.endpoint_id"""
_STATES_OF: Final = {status: [int(state) for state in JobState if state.status == status] for status in STATUSES}
_MAX_ROWS: Final = 10_000
_PAGE_CHARACTERS: Final = 1 << 20  # six bytes each at most in JSON, in a frame of 8 MiB
_SHORTEST_ID: Final = 4


class AmbiguousJob(JobNotFound):
    """Part of an id fits several jobs."""

    code = "ambiguous_job"


class Queries:
    """Answers QUERY frames: `reader` is the work for the reading thread, `finish` adds what memory knows."""

    def __init__(self, state: State) -> None:
        self._state = state

    def reader(self, query: Query) -> Read:
        """The reading of `query`, to be run in the reading thread."""
        makers: dict[str, Callable[[Query], Read]] = {
            "jobs": self._jobs,
            "job": self._job,
            "logs": self._logs,
            "events": self._events,
        }
        if query.what not in makers:
            raise ConfigError(f"nothing is known about {query.what!r}", why=f"known: {', '.join(makers)}")
        return makers[query.what](query)

    def finish(self, query: Query, rows: list[dict[str, Any]]) -> Rows:
        """The answer, with what memory knows laid over it. Runs in the loop."""
        if query.what == "jobs":
            more = len(rows) > _limit(query)
            rows = rows[: _limit(query)]
            cursor = str(rows[-1]["seq"]) if more else ""
            return Rows(rows=[self._listed(row) for row in rows], next=cursor)
        if query.what == "job":
            return Rows(rows=[self._told(row) for row in rows])
        return _page(query, rows) if query.what == "logs" else Rows(rows=rows)

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────

    def _jobs(self, query: Query) -> Read:
        where, arguments = ["1"], []
        wanted = query.filter
        if status := wanted.get("status"):
            states = _states(str(status))
            where.append(f"j.state IN ({','.join(map(str, states))})")
        if name := wanted.get("fn"):
            where.append("(f.name = ? OR substr(f.name, ?) = ?)")
            arguments += [name, -len(str(name)) - 1, f":{name}"]
        for key in ("name", "app"):
            if value := wanted.get("endpoint" if key == "name" else key):
                where.append(f"json_extract(e.spec, '$.{key}') = ?")
                arguments.append(value)
        if query.cursor:
            where.append("j.seq < ?")
            arguments.append(int(query.cursor) if query.cursor.isdigit() else 0)
        statement = f"SELECT {_LISTED} WHERE {' AND '.join(where)} ORDER BY j.seq DESC LIMIT ?"
        arguments.append(_limit(query) + 1)
        return lambda: self._state.store.read(statement, arguments)

    def _listed(self, row: dict[str, Any]) -> dict[str, Any]:
        endpoint = _decode(row["endpoint"])
        active = self._state.active.get(row["id"])
        state = _state_now(JobState(row["state"]), active)
        return {
            "job": row["id"],
            "fn": row["fn"],
            "endpoint": endpoint["name"],
            "app": endpoint["app"],
            "env": endpoint["env"],
            "status": state.status,
            "attempts": row["attempt"],
            "worker": row["worker"] or "",
            "created_at_ms": row["created_ms"],
            "started_at_ms": row["started_ms"] or (row["assigned_ms"] if state is JobState.RUNNING else None),
            "ended_at_ms": row["ended_ms"],
            "error": _first_line(row["error"]) if state.is_terminal else "",
        }

    def _job(self, query: Query) -> Read:
        part = str(query.filter.get("job", ""))

        def read() -> list[dict[str, Any]]:
            store = self._state.store
            job = self.resolve(part)
            (row,) = store.read(
                """SELECT j.*, f.name AS fn_name, f.version, p.key AS pool_key, length(j.args) AS args_size,
                    coalesce(length(j.out), 0) +
                    coalesce((SELECT sum(size) FROM blobs WHERE job = j.id), 0) AS out_size,
                    e.spec AS endpoint FROM jobs j JOIN functions f ON f.id = j.fn
                    JOIN pools p ON p.id = j.pool_id JOIN endpoints e ON e.id = p.endpoint_id WHERE j.id = ?""",
                (job,),
            )
            row["attempts_list"] = store.read("SELECT * FROM attempts WHERE job = ? ORDER BY epoch", (job,))
            row["events"] = store.read("SELECT at_ms, kind, data FROM events WHERE job = ? ORDER BY seq", (job,))
            return [row]

        return read

    def resolve(self, part: str) -> str:
        """The one job whose id is, begins or ends with `part`. Runs in the reading thread."""
        read = self._state.store.read
        if read("SELECT id FROM jobs WHERE id = ?", (part,)):
            return part
        if len(part) < _SHORTEST_ID or not all(letter in "0123456789abcdef-" for letter in part):
            raise _no_job(part)
        found = read("SELECT id FROM jobs WHERE id >= ? AND id < ? LIMIT 5", (part, part + "g"))
        found = found or read("SELECT id FROM jobs WHERE id LIKE ? LIMIT 5", (f"%{part}",))
        if not found:
            raise _no_job(part)
        if len(found) > 1:
            some = ", ".join(row["id"] for row in found[:4])
            raise AmbiguousJob(f"several jobs fit {part!r}", why=f"among them {some}", fix="give more of the id")
        return str(found[0]["id"])

    def _told(self, row: dict[str, Any]) -> dict[str, Any]:
        active = self._state.active.get(row["id"])
        state = _state_now(JobState(row["state"]), active)
        pool = self._state.pools.get(row["pool_id"])
        told = self._listed({**row, "fn": row["fn_name"]})
        attempts = [_attempt(attempt) for attempt in row["attempts_list"]]
        recorded = {attempt["epoch"] for attempt in attempts}
        if row["epoch"] not in recorded and state in {JobState.RUNNING, JobState.COMPLETED}:
            attempts.append(_last_attempt(row, state))
        return {
            **told,
            "version": row["version"],
            "pool": row["pool_key"],
            "environment": pool.environment.lock if pool else "",
            "policy": {
                "timeout_ms": row["timeout_ms"],
                "max_retries": row["max_retries"],
                "ttl_ms": row["expires_ms"] - row["created_ms"] if row["expires_ms"] else None,
                "priority": row["priority"],
            },
            "failures": row["failures"],
            "losses": row["losses"],
            "timing": timing_of(row, out_head_of(row)) if state.is_terminal else {},
            "args_size": row["args_size"] or 0,
            "out_size": row["out_size"] or 0,
            "why": self._why(row, state),
            "error_info": _decode(row["error"]) if row["error"] else None,
            "attempts_list": attempts,
            "events": [{**event, "data": _decode(event["data"])} for event in row["events"]],
        }

    def _why(self, row: dict[str, Any], state: JobState) -> str:
        if state is JobState.DELAYED:
            return "waits before its next attempt"
        pool = self._state.pools.get(row["pool_id"])
        return pool.why if pool and state in {JobState.READY, JobState.ASSIGNED} else ""

    # ── output and events ─────────────────────────────────────────────────────────────────────────

    def _logs(self, query: Query) -> Read:
        part, home = str(query.filter.get("job", "")), self._state.settings.home
        running = {
            job.job: (job.attempt, worker.id) for worker in self._state.workers.values() for job in worker.inflight
        }

        def read() -> list[dict[str, Any]]:
            job = self.resolve(part)
            spans = self._state.store.read(
                "SELECT * FROM log_spans WHERE job = ? AND segment <> '' ORDER BY attempt, segment, start", (job,)
            )
            lines = [
                _line(at, span["attempt"], fd, span["worker"], line)
                for span in spans
                for at, fd, line in logfile.read_span(
                    home, span["segment"], span["start"], span["length"], job, span["attempt"]
                )
            ]
            attempt, worker = running.get(job, (0, ""))
            if worker and attempt not in {span["attempt"] for span in spans}:
                for segment in logfile.segments_of(home, worker):
                    found = logfile.read_span(home, segment, 0, 1 << 40, job, attempt)
                    lines += [_line(at, attempt, fd, worker, line) for at, fd, line in found]
            wanted = query.filter.get("attempt")
            return [line for line in lines if wanted is None or line["attempt"] == wanted]

        return read

    def _events(self, query: Query) -> Read:
        statement = "SELECT seq, job, endpoint_id AS endpoint, at_ms, kind, data FROM events ORDER BY seq DESC LIMIT ?"

        def read() -> list[dict[str, Any]]:
            rows = self._state.store.read(statement, (_limit(query),))
            return [{**row, "data": _decode(row["data"])} for row in rows]

        return read

    # ── what only memory knows ────────────────────────────────────────────────────────────────────

    def endpoints(self) -> Rows:
        """Endpoints with their pools and workers."""
        return Rows(rows=[self._endpoint(endpoint) for endpoint in self._state.endpoints.values()])

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        spec = endpoint.spec
        workers = [worker for pool in endpoint.pools for worker in pool.workers.values()]
        return {
            "id": spec.id,
            "app": spec.app,
            "env": spec.env,
            "name": spec.name,
            "kind": spec.kind,
            "workers_min": spec.workers_min,
            "workers_max": spec.workers_max,
            "idle_timeout_s": spec.idle_timeout_s,
            "queued": sum(pool.queued for pool in endpoint.pools)
            + sum(max(0, len(one.inflight) - 1) for one in workers),
            "running": sum(1 for worker in workers if worker.inflight),
            "why": next((pool.why for pool in endpoint.pools if pool.why), ""),
            "pools": [
                {
                    "id": pool.id,
                    "key": pool.key,
                    "environment": pool.environment.lock,
                    "state": pool.environment.state,
                }
                for pool in endpoint.pools
            ],
            "workers": [self._worker(worker) for worker in workers],
        }

    def workers(self) -> Rows:
        """Every worker there is."""
        return Rows(
            rows=[
                {**self._worker(one), "endpoint": one.pool.endpoint.spec.name} for one in self._state.workers.values()
            ]
        )

    def _worker(self, worker: Worker) -> dict[str, Any]:
        front = worker.inflight[0] if worker.inflight else None
        return {
            "worker": worker.id,
            "pool": worker.pool.id,
            "state": "away" if worker.link is None and worker.state == "busy" else worker.state,
            "pid": worker.pid,
            "start": worker.how,
            "rss_kb": worker.rss_kb,
            "cpu_ms": worker.cpu_ms,
            "job": front.job if front else "",
            "fn": front.fn.spec.name if front else "",
            "launched_at_ms": worker.launched_ms,
            "gpus": list(worker.gpus),
        }

    def counts(self) -> dict[str, int]:
        """Jobs by status. Runs in the reading thread."""
        counts = dict.fromkeys(STATUSES, 0)
        for row in self._state.store.read("SELECT state, count(*) AS n FROM jobs GROUP BY state"):
            counts[JobState(row["state"]).status] += row["n"]
        return counts


def _page(query: Query, lines: list[dict[str, Any]]) -> Rows:
    """The lines from the cursor on, as many as asked for and as a frame can take."""
    first = int(query.cursor) if query.cursor.isdigit() else 0
    size, last = 0, first
    for line in lines[first : first + _limit(query)]:
        size += len(line["line"])
        if size > _PAGE_CHARACTERS and last > first:
            break
        last += 1
    return Rows(rows=lines[first:last], next=str(last) if last < len(lines) else "")


def _limit(query: Query) -> int:
    return max(1, min(query.limit, _MAX_ROWS))


def _states(status: str) -> list[int]:
    found = _STATES_OF.get(status.upper())
    if found is None:
        raise ConfigError(f"there is no status {status!r}", why=f"known: {', '.join(STATUSES)}")
    return found


def _state_now(state: JobState, active: Active | None) -> JobState:
    """The state on record, or what memory knows better: whether an assigned job has come to its turn."""
    if active is None or state.is_terminal:
        return state
    return JobState.RUNNING if active.begun_at else JobState.ASSIGNED


def _first_line(error: str | None) -> str:
    if not error:
        return ""
    info = _decode(error)
    return str(f"{info['type']}: {info['message']}".splitlines()[0])


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    info = _decode(row["error"]) if row["error"] else {}
    return {
        "n": row["n"],
        "epoch": row["epoch"],
        "worker": row["worker"] or "",
        "assigned_at_ms": row["assigned_ms"],
        "started_at_ms": row["started_ms"],
        "ended_at_ms": row["ended_ms"],
        "end": row["end"],
        "error": f"{info['type']}: {info['message']}" if info else "",
        "exit": "",
    }


def _last_attempt(row: dict[str, Any], state: JobState) -> dict[str, Any]:
    return {
        "n": row["attempt"],
        "epoch": row["epoch"],
        "worker": row["worker"] or "",
        "assigned_at_ms": row["assigned_ms"],
        "started_at_ms": row["started_ms"] or row["assigned_ms"],
        "ended_at_ms": row["ended_ms"],
        "end": "completed" if state is JobState.COMPLETED else "running",
        "error": "",
        "exit": "",
    }


def _line(at_ms: int, attempt: int, fd: int, worker: str, line: str) -> dict[str, Any]:
    return {"at_ms": at_ms, "attempt": attempt, "fd": fd, "worker": worker, "line": line}


def _no_job(part: str) -> JobNotFound:
    return JobNotFound(f"there is no job {part!r}", fix="see which there are: flash jobs")
