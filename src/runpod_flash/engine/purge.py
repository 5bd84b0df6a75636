"""`flash purge`: ends jobs that wait, or forgets jobs that have ended, by the hundred; and says first how many.

Looked for in the reading thread, done in slices, one a turn, so that nobody else's call waits for it. Only what was
there when it was asked for is touched: who goes on submitting is not fought with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.listing import functions_named
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.retention import Retention
from runpod_flash.engine.state import State
from runpod_flash.errors import ConfigError
from runpod_flash.model.job import TERMINAL_STATES, WAITING_STATES, JobState

_SLICE: Final = 200
_FOUND_AT_ONCE: Final = 5000

Done = Callable[[dict[str, Any], Exception | None], None]


@dataclass
class _Order:
    """One purge under way."""

    ended: bool
    names: Mapping[str, str]
    states: Sequence[int]
    until_ms: int
    dry: bool
    done: Done
    newest: int = 0  # the last job that there was when it was asked for
    seen: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        return {
            "jobs": self.statuses.total(),
            "by_status": dict(self.statuses),
            "by_function": dict(self.functions.most_common()),
            "dry_run": self.dry,
        }


class Purge:
    """Carries out orders to purge."""

    def __init__(self, state: State, queue: Queue, attempts: Attempts, retention: Retention) -> None:
        self._state = state
        self._queue = queue
        self._attempts = attempts
        self._retention = retention

    def start(self, wanted: Mapping[str, Any], done: Done) -> None:
        """`wanted`: ended, older_than_ms, dry, and endpoint, app, env, fn. Calls back with what was done."""
        ended = bool(wanted.get("ended"))
        names = {name: str(wanted[name]) for name in ("endpoint", "app", "env", "fn") if wanted.get(name)}
        age = wanted.get("older_than_ms") or 0
        if not isinstance(age, int) or not 0 <= age < 1 << 48:
            raise ConfigError(f"older_than_ms={age!r} is not possible", why="it must be a number of milliseconds")
        if not ended and "endpoint" not in names:
            raise ConfigError("what waits is purged of one endpoint", why="no endpoint is named")
        states = sorted(map(int, TERMINAL_STATES if ended else WAITING_STATES))
        order = _Order(ended, names, states, self._state.clock.wall_ms() - age, bool(wanted.get("dry")), done)
        self._look(order)

    def _look(self, order: _Order) -> None:
        self._state.turn.in_thread(lambda: self._find(order), lambda rows, error: self._found(order, rows, error))

    def _find(self, order: _Order) -> list[dict[str, Any]]:
        """The next jobs, oldest first. Runs in the reading thread."""
        read = self._state.store.read
        if not order.newest:
            order.newest = read("SELECT coalesce(max(seq), 0) AS seq FROM jobs")[0]["seq"]
        conditions = [f"state IN ({','.join(map(str, order.states))})", "seq > ?", "seq <= ?"]
        conditions.append("ended_ms <= ?" if order.ended else "created_ms <= ?")
        chosen = functions_named(self._state.store, order.names)
        if chosen is not None:
            conditions.append(f"fn IN ({','.join(map(str, chosen))})")
        return read(
            f"SELECT seq, id, state, fn FROM jobs WHERE {' AND '.join(conditions)} ORDER BY seq LIMIT {_FOUND_AT_ONCE}",
            (order.seen, order.newest, order.until_ms),
        )

    def _found(self, order: _Order, rows: list[dict[str, Any]] | None, error: Exception | None) -> None:
        if error is not None or rows is None:
            order.done({}, error)
        elif not rows:
            self._end(order)
        else:
            order.seen = rows[-1]["seq"]
            self._state.call_later(0, self._work, order, rows)

    def _work(self, order: _Order, rows: list[dict[str, Any]]) -> None:
        """A slice of them, then the next, then another look."""
        for row in rows[:_SLICE]:
            self._count(order, JobState(row["state"]).status, row["fn"])
        if not order.dry:
            self._do(order, [row["id"] for row in rows[:_SLICE]])
        if rest := rows[_SLICE:]:
            self._state.call_later(0, self._work, order, rest)
        else:
            self._look(order)

    def _do(self, order: _Order, jobs: list[str]) -> None:
        if order.ended:
            self._retention.forget(jobs, order.until_ms)
            return
        for job in jobs:
            row = self._state.store.job(job)
            if row is not None and row["state"] in order.states:
                self._queue.cancel(row, "flash purge")

    def _end(self, order: _Order) -> None:
        """What was sent ahead to a busy worker waits as well, as everybody sees it."""
        if not order.ended:
            for live in [each for each in self._state.active.values() if self._waits_at_worker(order, each.fn.id)]:
                if live.begun_at or live.cancelling or live.seq > order.newest:
                    continue
                self._count(order, JobState.ASSIGNED.status, live.fn.id)
                if not order.dry:
                    self._attempts.cancel(live, "flash purge")
        order.done(order.report(), None)

    def _waits_at_worker(self, order: _Order, fn: int) -> bool:
        function = self._state.functions[fn]
        spec = function.pool.endpoint.spec
        known = {
            "endpoint": {spec.name, spec.id},
            "app": {spec.app},
            "env": {spec.env},
            "fn": {function.spec.name, function.spec.name.rpartition(":")[2]},
        }
        return all(value in known[name] for name, value in order.names.items())

    def _count(self, order: _Order, status: str, fn: int) -> None:
        order.statuses[status] += 1
        function = self._state.functions.get(fn)
        order.functions[function.spec.name if function else "?"] += 1
