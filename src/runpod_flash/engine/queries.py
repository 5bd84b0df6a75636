"""What people ask about jobs: rows for `flash jobs`, `job`, `logs` and `status`.

Statements run on the reading connection in another thread, so a long listing holds nobody up; what only memory
knows (who runs what right now) is laid over the rows in the loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from runpod_flash.engine.cost import read_cost
from runpod_flash.engine.listing import Listing, read_filter
from runpod_flash.engine.outcomes import out_head_of, timing_of
from runpod_flash.engine.output import Output
from runpod_flash.engine.reasons import reason_of_job, told_of
from runpod_flash.engine.records import Active
from runpod_flash.engine.state import ArgsHead, OutHead, State
from runpod_flash.errors import ConfigError, JobNotFound
from runpod_flash.host.environments import Environments
from runpod_flash.model.endpoint import PoolSpec
from runpod_flash.model.job import STATUSES, JobState
from runpod_flash.wire.messages import Query, Rows

Read = Callable[[], list[dict[str, Any]]]
Page = tuple[list[dict[str, Any]], str]
"""Rows, and where the next ones begin."""

_pool = msgspec.json.Decoder(PoolSpec)
_decode = msgspec.json.decode
_args_head = msgspec.json.Decoder(ArgsHead).decode
_MAX_ROWS: Final = 10_000
_LONGEST_LINE: Final = 500  # of an error in a listing, whose frame holds thousands
_SHORTEST_ID: Final = 4
_WHOLE_ID: Final = 36
_MOST_BELOW: Final = 1000
# Each below the one that called it: a path of numbers that have the same length sorts like a tree.
_BELOW: Final = """WITH RECURSIVE below (id, parent, parent_attempt, state, fn, depth, path) AS (
    SELECT id, parent, parent_attempt, state, fn, 1, printf('%016d', seq) FROM jobs WHERE parent = ?1
    UNION ALL SELECT j.id, j.parent, j.parent_attempt, j.state, j.fn, depth + 1, path || printf('%016d', j.seq)
    FROM jobs j JOIN below b ON j.parent = b.id
) SELECT b.id, b.parent, parent_attempt, state, depth, f.name AS fn FROM below b JOIN functions f ON f.id = b.fn
ORDER BY path LIMIT ?2"""


class AmbiguousJob(JobNotFound):
    """Part of an id fits several jobs."""

    code = "ambiguous_job"


class Queries:
    """Answers QUERY frames: `reader` is the work for the reading thread, `finish` adds what memory knows."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._output = Output(state)

    def reader(self, query: Query) -> Callable[[], Any]:
        """The reading of `query`, to be run in the reading thread."""
        makers: dict[str, Callable[[Query], Callable[[], Any]]] = {
            "jobs": self._jobs,
            "job": self._job,
            "logs": self._logs,
            "events": self._events,
            "names": self._names,
            "cost": self._cost,
        }
        if query.what not in makers:
            raise ConfigError(f"nothing is known about {query.what!r}", why=f"known: {', '.join(makers)}")
        return makers[query.what](query)

    def finish(self, query: Query, found: Any) -> Rows:
        """The answer, with what memory knows laid over it. Runs in the loop."""
        if query.what == "jobs":
            rows, cursor = found
            wanted = read_filter(query.filter, 1, "").statuses
            listed = [self._listed(row) for row in rows]
            # Some have gone on since they were found, and are not what was asked for any more.
            return Rows(rows=[row for row in listed if not wanted or row["status"] in wanted], next=cursor)
        if query.what == "job":
            return Rows(rows=[self._told(row) for row in found])
        if query.what == "logs":
            return self._output.page(query, found)
        return Rows(rows=found)

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────

    def _jobs(self, query: Query) -> Callable[[], Page]:
        wanted = read_filter(query.filter, _limit(query), query.cursor)
        live = [job.seq for job in self._state.active.values() if _status_of(job) in wanted.statuses]

        def read() -> Page:
            listing = Listing(self._state.store, wanted, live)
            before = self._number_of(wanted.before) if wanted.before else None
            return listing.read(before, self._parent(wanted.parent))

        return read

    def _number_of(self, part: str) -> int:
        (row,) = self._state.store.read("SELECT seq FROM jobs WHERE id = ?", (self.resolve(part),))
        return int(row["seq"])

    def _parent(self, part: str) -> str:
        """The id that was meant. A load-balanced call is on no record, so its id has to be whole."""
        return part if not part or len(part) == _WHOLE_ID else self.resolve(part)

    def _names(self, _query: Query) -> Read:
        """What jobs, endpoints and functions are called, for suggestions and for shells that complete."""
        endpoints = [endpoint.spec for endpoint in self._state.endpoints.values()]
        names = {
            "endpoint": {spec.name for spec in endpoints},
            "endpoint_id": {spec.id for spec in endpoints},
            "app": {spec.app for spec in endpoints},
            "env": {spec.env for spec in endpoints},
            "fn": {function.spec.name for function in self._state.functions.values()},
        }
        return lambda: [{kind: sorted(each) for kind, each in names.items()}]

    def _cost(self, query: Query) -> Read:
        wanted = read_filter(query.filter, 1, "")
        now_ms = self._state.clock.wall_ms()
        return lambda: read_cost(self._state.store, wanted.names, wanted.since_ms or 0, now_ms)

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
            "progress": _progress(row, active),
        }

    def _job(self, query: Query) -> Read:
        part = str(query.filter.get("job", ""))

        def read() -> list[dict[str, Any]]:
            store = self._state.store
            job = self.resolve(part)
            (row,) = store.read(
                """SELECT j.*, f.name AS fn_name, f.version, p.key AS pool_key, p.spec AS pool_spec, w.host,
                    length(j.args) AS args_size,
                    length(j.out) AS out_size,
                    e.spec AS endpoint FROM jobs j JOIN functions f ON f.id = j.fn
                    JOIN pools p ON p.id = j.pool_id JOIN endpoints e ON e.id = p.endpoint_id
                    LEFT JOIN workers w ON w.id = j.worker WHERE j.id = ?""",
                (job,),
            )
            row["attempts_list"] = store.read("SELECT * FROM attempts WHERE job = ? ORDER BY epoch", (job,))
            row |= self._environment_of(_pool.decode(row["pool_spec"]))
            row["events"] = store.read("SELECT at_ms, kind, data FROM events WHERE job = ? ORDER BY seq", (job,))
            row["below"] = store.read(_BELOW, (job, _MOST_BELOW))
            return [row]

        return read

    def _environment_of(self, pool: PoolSpec) -> dict[str, Any]:
        """What is in its environment, as far as this machine has built it. Runs in the reading thread."""
        environments = Environments(self._state.settings.home)
        known = environments.request(pool.environment_key())
        facts = environments.facts(known.id) if known else None
        return {
            "environment": known.id if known else "",
            "packages": len(known.lock) if known else None,
            "python": facts.python if facts else _version_of(pool.abi),
            "requirements": list(pool.requirements),
        }

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
        reason = reason_of_job(self._state, row, state, pool)
        told = self._listed({**row, "fn": row["fn_name"]})
        attempts = [_attempt(attempt) for attempt in row["attempts_list"]]
        recorded = {attempt["epoch"] for attempt in attempts}
        if row["epoch"] not in recorded and state in {JobState.RUNNING, JobState.COMPLETED}:
            attempts.append(_last_attempt(row, state))
        return {
            **told,
            "version": row["version"],
            "pool": row["pool_key"],
            "environment": (pool.environment.lock if pool else "") or row["environment"],
            "python": row["python"],
            "packages": row["packages"],
            "requirements": row["requirements"],
            "host": row["host"] or "",
            "policy": {
                "timeout_ms": row["timeout_ms"],
                "max_retries": row["max_retries"],
                "ttl_ms": row["expires_ms"] - row["created_ms"] if row["expires_ms"] else None,
                "priority": row["priority"],
            },
            "failures": row["failures"],
            "losses": row["losses"],
            "timing": timing_of(row, out_head_of(row)) if state.is_terminal else {},
            "args_size": (row["args_size"] or 0) + (_in_files(_args_head(row["args_head"])) if row["args_head"] else 0),
            "out_size": (row["out_size"] or 0) + _in_files(out_head_of(row)),
            "why": reason.why if reason else "",
            "waits": told_of(reason),
            "error_info": _decode(row["error"]) if row["error"] else None,
            "attempts_list": attempts,
            "parent": row["parent"] or "",
            "calls": [self._called(each) for each in row["below"]],
            "events": [{**event, "data": _decode(event["data"])} for event in row["events"]],
        }

    def _called(self, row: dict[str, Any]) -> dict[str, Any]:
        state = _state_now(JobState(row["state"]), self._state.active.get(row["id"]))
        return {
            "job": row["id"],
            "parent": row["parent"],
            "attempt": row["parent_attempt"],
            "depth": row["depth"],
            "fn": row["fn"],
            "status": state.status,
        }

    # ── output and events ─────────────────────────────────────────────────────────────────────────

    def _logs(self, query: Query) -> Callable[[], Any]:
        if query.filter.get("endpoint"):
            return self._output.of_endpoint(query)
        return self._output.of_job(query, self.resolve)

    def _events(self, query: Query) -> Read:
        statement = "SELECT seq, job, endpoint_id AS endpoint, at_ms, kind, data FROM events ORDER BY seq DESC LIMIT ?"

        def read() -> list[dict[str, Any]]:
            rows = self._state.store.read(statement, (_limit(query),))
            return [{**row, "data": _decode(row["data"])} for row in rows]

        return read

    # ── counts and names ──────────────────────────────────────────────────────────────────────────

    def counts(self) -> dict[str, int]:
        """Jobs by status. Runs in the reading thread."""
        counts = dict.fromkeys(STATUSES, 0)
        for row in self._state.store.read("SELECT state, count(*) AS n FROM jobs GROUP BY state"):
            counts[JobState(row["state"]).status] += row["n"]
        return counts


def _in_files(head: ArgsHead | OutHead) -> int:
    """Bytes of the parts that are not in the row."""
    return sum(size for _index, _blob, size in head.blobs)


def _limit(query: Query) -> int:
    return max(1, min(query.limit, _MAX_ROWS))


def _status_of(active: Active) -> str:
    return (JobState.RUNNING if active.begun_at else JobState.ASSIGNED).status


def _state_now(state: JobState, active: Active | None) -> JobState:
    """The state on record, or what memory knows better: whether an assigned job has come to its turn."""
    if active is None or state.is_terminal:
        return state
    return JobState.RUNNING if active.begun_at else JobState.ASSIGNED


def _progress(row: dict[str, Any], active: Active | None) -> Any:
    """What a job said last of its progress; None if nothing."""
    said = active.progress if active is not None else row["progress"]
    return _decode(said) if said else None


def _version_of(abi: str) -> str:
    """`3.11` of `cpython-311…`."""
    found = re.match(r"cpython-(\d)(\d+)", abi)
    return f"{found[1]}.{found[2]}" if found else ""


def _first_line(error: str | None) -> str:
    if not error:
        return ""
    info = _decode(error)
    return str(f"{info['type']}: {info['message']}".splitlines()[0][:_LONGEST_LINE])


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


def _no_job(part: str) -> JobNotFound:
    return JobNotFound(f"there is no job {part!r}", fix="see which there are: flash jobs")
