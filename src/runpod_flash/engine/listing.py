"""Which jobs a listing names: found in slices, newest first, without an index that every call would have to write.

What a job is called in a filter (endpoint, app, function) is looked up once, in small tables; its row is then chosen by
numbers that stand at its head. Live jobs are known in memory and waiting ones have an index, so only ended ones are
looked for by reading through the table, a slice of it for each page: a page may be short and still have a next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runpod_flash.engine.store.base import Store
from runpod_flash.errors import ConfigError, did_you_mean
from runpod_flash.model.job import LIVE_STATES, STATUSES, JobState

Row = dict[str, Any]

SLICE: Final = 50_000
"""Rows that are read through for one page: some ten milliseconds in the reading thread, which others need too."""
_BEYOND: Final = 1 << 62
_STATES_OF: Final = {status: {state for state in JobState if state.status == status} for status in STATUSES}
_decode = msgspec.json.decode

COLUMNS: Final = """j.seq, j.id, j.state, j.attempt, j.worker, j.created_ms, j.started_ms, j.assigned_ms,
                    j.ended_ms, j.error, j.progress, f.name AS fn, e.spec AS endpoint
                    FROM jobs j JOIN functions f ON f.id = j.fn JOIN pools p ON p.id = j.pool_id
                    JOIN endpoints e ON e.id = p.endpoint_id"""


@dataclass(frozen=True)
class Wanted:
    """A filter, read. `statuses` empty: any. Times are of creation, wall clock milliseconds."""

    statuses: frozenset[str]
    names: Mapping[str, str]  # endpoint, app, env, fn
    since_ms: int | None
    until_ms: int | None
    before: str  # part of a job's id
    parent: str  # the same of the job that called them, or the whole id of a load-balanced call
    limit: int
    cursor: str

    @property
    def states(self) -> set[JobState]:
        """Their states on record; all of them if any will do."""
        return set().union(*(_STATES_OF[status] for status in self.statuses)) if self.statuses else set(JobState)

    @property
    def scans(self) -> bool:
        """Whether jobs that have ended are wanted."""
        return any(state.is_terminal for state in self.states)


def read_filter(wanted: Mapping[str, Any], limit: int, cursor: str) -> Wanted:
    """The filter of a QUERY; ConfigError names what it cannot mean."""
    status = wanted.get("status") or ()
    statuses = [status] if isinstance(status, str) else list(status)
    names = {name: str(wanted[name]) for name in ("endpoint", "app", "env", "fn") if wanted.get(name)}
    return Wanted(
        frozenset(_status(str(one)) for one in statuses),
        names,
        _time(wanted.get("since_ms")),
        _time(wanted.get("until_ms")),
        str(wanted.get("before") or ""),
        str(wanted.get("parent") or ""),
        limit,
        cursor,
    )


def _status(text: str) -> str:
    if text.upper() not in _STATES_OF:
        raise ConfigError(
            f"there is no status {text!r}{did_you_mean(text.upper(), STATUSES)}", why=f"known: {', '.join(STATUSES)}"
        )
    return text.upper()


def _time(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or abs(value) > _BEYOND:
        raise ConfigError(f"{value!r} is no time", why="milliseconds since 1970 are")
    return int(value)


class Listing:
    """One page of jobs. Everything runs in the reading thread."""

    def __init__(self, store: Store, wanted: Wanted, live: Sequence[int]) -> None:
        """`live`: the numbers of the jobs at workers that have a wanted status, as memory knows it."""
        self._store = store
        self._wanted = wanted
        self._live = live
        self._conditions: list[str] = []
        self._arguments: list[Any] = []

    def read(self, before: int | None, parent: str = "") -> tuple[list[Row], str]:
        """The rows, and where the next page begins ("" after the last). `parent`: the whole id."""
        wanted = self._wanted
        if parent:
            self._conditions.append("parent = ?")
            self._arguments.append(parent)
        high = min(_cursor(wanted.cursor), _BEYOND if before is None else before)
        low = 0
        if wanted.until_ms is not None:
            high = min(high, self._first_from(wanted.until_ms + 1))
        if wanted.since_ms is not None:
            low = self._first_from(wanted.since_ms)
        if not self._understand_names():
            return [], ""
        # Those of one parent have an index.
        first = self._slice_below(high, low) if wanted.scans and not parent else low
        found = self._find(first, high)
        if len(found) > wanted.limit:
            found = found[: wanted.limit]
            return self._rows(found), str(found[-1])
        return self._rows(found), str(first) if first > low and self._is_any_below(first, low) else ""

    def _understand_names(self) -> bool:
        """Turns names into the numbers of functions; False if nothing has these names."""
        chosen = functions_named(self._store, self._wanted.names)
        if chosen is not None:
            self._conditions.append(f"fn IN ({','.join(map(str, chosen))})")
        return chosen != []

    def _find(self, low: int, high: int) -> list[int]:
        """The numbers of the wanted jobs in that range, newest first; one more than asked for, if there are."""
        states, most = self._wanted.states, self._wanted.limit + 1
        if not self._wanted.statuses:
            return self._numbers("jobs", states, low, high, most)
        found = list(self._of_live(low, high))
        if self._wanted.scans:
            # One pass for waiting and ended ones alike.
            found += self._numbers("jobs", states - LIVE_STATES, low, high, most)
        else:
            for state, index in ((JobState.READY, "jobs_ready"), (JobState.DELAYED, "jobs_delayed")):
                if state in states:
                    found += self._numbers(f"jobs INDEXED BY {index}", {state}, low, high, most)
        return sorted(set(found), reverse=True)[:most]

    def _numbers(self, table: str, states: Iterable[JobState], low: int, high: int, most: int) -> list[int]:
        chosen = sorted(map(int, states))
        one = f"state = {chosen[0]}" if len(chosen) == 1 else f"state IN ({','.join(map(str, chosen))})"
        where = " AND ".join([one, "seq >= ? AND seq < ?", *self._conditions])
        rows = self._store.read(
            f"SELECT seq FROM {table} WHERE {where} ORDER BY seq DESC LIMIT ?", (low, high, *self._arguments, most)
        )
        return [row["seq"] for row in rows]

    def _of_live(self, low: int, high: int) -> Iterable[int]:
        within = [seq for seq in self._live if low <= seq < high]
        if not within or not self._conditions:
            return within
        chosen = f"seq IN ({','.join(map(str, within))})"
        rows = self._store.read(
            f"SELECT seq FROM jobs WHERE {' AND '.join([chosen, *self._conditions])}", tuple(self._arguments)
        )
        return [row["seq"] for row in rows]

    def _rows(self, numbers: Sequence[int]) -> list[Row]:
        chosen = ",".join(map(str, numbers))
        return self._store.read(f"SELECT {COLUMNS} WHERE j.seq IN ({chosen}) ORDER BY j.seq DESC") if numbers else []

    def _slice_below(self, high: int, low: int) -> int:
        """Where the slice begins that ends before `high`; where jobs were forgotten it is wider."""
        newest = self._newest_below(high)
        return max(low, newest + 1 - SLICE) if newest is not None else low

    def _newest_below(self, seq: int) -> int | None:
        (row,) = self._store.read("SELECT max(seq) AS seq FROM jobs WHERE seq < ?", (seq,))
        return None if row["seq"] is None else int(row["seq"])

    def _is_any_below(self, seq: int, low: int) -> bool:
        newest = self._newest_below(seq)
        return newest is not None and newest >= low

    def _first_from(self, at_ms: int) -> int:
        """The number of the first job that was made at that time or later. Numbers and times grow together."""
        low, high = 0, (self._newest_below(_BEYOND) or 0) + 1
        while low < high:
            middle = (low + high) // 2
            statement = "SELECT seq, created_ms FROM jobs WHERE seq >= ? ORDER BY seq LIMIT 1"
            found = self._store.read(statement, (middle,))
            if not found or found[0]["created_ms"] >= at_ms:
                high = middle
            else:
                low = found[0]["seq"] + 1
        return low


def functions_named(store: Store, names: Mapping[str, str]) -> list[int] | None:
    """The numbers of the functions that a filter names; None if it names nothing. Runs in the reading thread."""
    if not names:
        return None
    where = dict(names)
    name = where.pop("fn", "")
    functions = store.read("""SELECT f.id, f.name AS fn, e.spec, e.public_id FROM functions f
                              JOIN pools p ON p.id = f.pool_id JOIN endpoints e ON e.id = p.endpoint_id""")
    return [
        row["id"]
        for row in functions
        if (not name or row["fn"] == name or row["fn"].endswith(f":{name}")) and _fits(row, where)
    ]


def _cursor(text: str) -> int:
    return min(int(text), _BEYOND) if text.isascii() and text.isdigit() and len(text) < 20 else _BEYOND


def _fits(row: Row, names: Mapping[str, str]) -> bool:
    """Whether an endpoint is the one that was named; by its id it may be named as well."""
    spec = _decode(row["spec"])
    known = {"endpoint": (spec["name"], row["public_id"]), "app": (spec["app"],), "env": (spec["env"],)}
    return all(value in known[key] for key, value in names.items())
