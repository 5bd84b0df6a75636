"""Forgets what nobody uses any more: old versions of functions, pools and endpoints of scripts, definitions.

Without it `flash ps` and the store would grow with every change of a user's code. What was declared a week ago, has no
job on record, no worker and no program that holds it, comes back by itself with the next call, since programs declare
what they call. What was deployed stays until it is undeployed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from runpod_flash.engine.records import Phase, Pool
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.staging import functions_of
from runpod_flash.engine.state import State

T = TypeVar("T")

logger = logging.getLogger(__name__)

KEPT_MS: Final = 7 * 86_400_000
_FIRST_LOOK_S: Final = 30.0
_LOOK_S: Final = 3600.0
_SLICE: Final = 100
_PAUSE_S: Final = 0.02


@dataclass(frozen=True)
class _Unused:
    """What was found; `newest` is the last job there was then."""

    functions: list[int]
    pools: list[int]
    definitions: list[str]
    newest: int
    before_ms: int
    sent_before_ms: int


class Disuse:
    """Looks once an hour, in the reading thread, and forgets in slices."""

    def __init__(self, state: State, registry: Registry, oldest_client_ms: Callable[[], int | None]) -> None:
        """`oldest_client_ms`: since when the program is connected that has been for the longest."""
        self._state = state
        self._registry = registry
        self._oldest_client_ms = oldest_client_ms

    def start(self) -> None:
        """Sets the alarm."""
        self._state.call_later(_FIRST_LOOK_S, self._look)

    def _look(self) -> None:
        self._state.call_later(_LOOK_S, self._look)
        before_ms = self._state.clock.wall_ms() - KEPT_MS
        # A program does not send a definition twice on one link, so what it has sent must stay as long as it is there.
        oldest = self._oldest_client_ms()
        sent_before_ms = before_ms if oldest is None else min(before_ms, oldest)
        self._state.turn.in_thread(lambda: self._find(before_ms, sent_before_ms), self._found)

    def _find(self, before_ms: int, sent_before_ms: int) -> _Unused | None:
        """Runs in the reading thread. Reads through the jobs only if there is anything old at all."""
        read = self._state.store.read
        functions = read("SELECT id, pool_id FROM functions WHERE used_ms < ?", (before_ms,))
        pools = read("SELECT id FROM pools WHERE used_ms < ?", (before_ms,))
        definitions = read("SELECT digest FROM definitions WHERE used_ms < ?", (sent_before_ms,))
        if not (functions or pools or definitions):
            return None
        newest = read("SELECT coalesce(max(seq), 0) AS seq FROM jobs")[0]["seq"]
        used = read("SELECT DISTINCT pool_id, fn FROM jobs")
        used_functions, used_pools = {row["fn"] for row in used}, {row["pool_id"] for row in used}
        kept = {one for row in read("SELECT functions FROM releases") for one in functions_of(row["functions"])}
        used_functions |= kept
        used_pools |= {row["pool_id"] for row in read("SELECT id, pool_id FROM functions") if row["id"] in kept}
        unused = [row["id"] for row in functions if row["id"] not in used_functions]
        return _Unused(
            unused,
            [row["id"] for row in pools if row["id"] not in used_pools],
            self._unneeded({row["digest"] for row in definitions}, set(unused)),
            newest,
            before_ms,
            sent_before_ms,
        )

    def _unneeded(self, digests: set[str], unused: set[int]) -> list[str]:
        """Those that no function in use and no job on record names."""
        if not digests:
            return []
        named: set[str] = set()
        statements = (
            "SELECT id, spec AS head FROM functions",
            """SELECT NULL AS id, args_head AS head FROM jobs WHERE instr(args_head, '"defs"')""",
            """SELECT NULL AS id, out_head AS head FROM jobs WHERE instr(out_head, '"defs"')""",
        )
        for statement in statements:
            for row in self._state.store.read(statement):
                if row["id"] not in unused:
                    named.update(json.loads(row["head"]).get("defs", ()))
        return sorted(digests - named)

    def _found(self, found: _Unused | None, error: Exception | None) -> None:
        if error is not None:
            logger.warning("what is not used any more could not be looked for: %s", error)
        elif found is not None:
            self._state.call_later(0, self._forget, found)

    def _forget(self, found: _Unused) -> None:
        """A slice of it, then the next: functions first, as pools and definitions are there for them."""
        if functions := _take(found.functions):
            self._forget_functions(functions, found)
        elif pools := _take(found.pools):
            self._forget_pools(pools, found)
        elif definitions := _take(found.definitions):
            # Somebody may have declared a function since, and was told that its definitions are here.
            needed = {digest for function in self._state.functions.values() for digest in function.spec.defs}
            unneeded = [digest for digest in definitions if digest not in needed]
            self._state.turn.write().drop_definitions(unneeded, found.sent_before_ms)
        else:
            return
        self._state.call_later(_PAUSE_S, self._forget, found)

    def _forget_functions(self, numbers: list[int], found: _Unused) -> None:
        known = self._state.functions
        free = [one for one in numbers if one in known and self._is_free(known[one].pool)]
        for one in self._state.turn.write().drop_functions(free, found.before_ms, found.newest):
            self._registry.remove_function(one)

    def _forget_pools(self, numbers: list[int], found: _Unused) -> None:
        known = self._state.pools
        free = [one for one in numbers if one in known and self._is_free(known[one])]
        store = self._state.turn.write()
        for one in store.drop_pools(free, found.before_ms):
            endpoint = self._registry.remove_pool(known[one])
            if endpoint is not None:
                store.drop_endpoint(endpoint.id)

    def _is_free(self, pool: Pool) -> bool:
        endpoint = pool.endpoint
        busy = pool.queued or pool.workers or pool.failing
        served = endpoint.spec.origin == "served" and endpoint.last_pool is pool
        return not (busy or endpoint.holders or served or (endpoint.deployed and pool.phase is not Phase.RETIRED))


def _take(items: list[T]) -> list[T]:
    """The next slice, which is taken away."""
    taken = items[:_SLICE]
    del items[:_SLICE]
    return taken
