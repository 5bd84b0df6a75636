"""Calls that remote functions make: which job waits for which, and what becomes of the ones below when one ends.

Only calls that are awaited are kept here; a spawned job has a parent on record and goes its own way. Memory alone:
after a start it is read from the store (`Store.awaited_below`), but for load-balanced calls, which are gone by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from runpod_flash.engine.records import Worker
from runpod_flash.errors import EngineRefused
from runpod_flash.wire.door import Caller

CALLER_ENDED: Final = "the job that called it has ended"
CALLER_LOST: Final = "the attempt that called it is over"
DEEPEST: Final = 50
"""Calls within calls: more is a recursion without an end, each level of which holds a worker."""


class Lineage:
    """Who waits for whom."""

    def __init__(self) -> None:
        self.cancel: Callable[[str, str], None] = lambda job, cause: None
        """Ends a job or call, wherever it is."""
        self.told: Callable[[Iterable[str]], str] = " → ".join
        """A chain of calls in words."""
        self.above: dict[str, str] = {}
        """Each call that a job waits for → that job. Empty: no job waits for another."""
        self._below: dict[str, dict[str, None]] = {}  # a job → those that it awaits, in the order of their calls
        self._hopeless: set[str] = set()  # those above a call that was too deep, or could never start

    def clear(self) -> None:
        """Forgets everything that can be read again from the store."""
        self._below.clear()
        self.above.clear()
        self._hopeless.clear()

    def recover(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Takes up what the store says: jobs that have not ended, each with the one that awaits it."""
        for job, above in pairs:
            self.awaits(above, job)

    # ── calls ─────────────────────────────────────────────────────────────────────────────────────

    def check(self, worker: Worker | None, parent: Caller | None) -> None:
        """EngineRefused unless a call comes from where it says: a program, or a job that runs at that worker."""
        if worker is None:
            if parent is not None:
                raise EngineRefused("only a worker calls for a job", why="this connection is a program's")
            return
        if parent is None or not runs(worker, parent):
            raise EngineRefused(
                "a remote function was called by code whose own call is over",
                why=f"worker {worker.id} does not run job {parent[0] if parent else '(none)'} (any more), and a call "
                "from a worker belongs to the one that makes it",
                fix="await all calls before the function returns, or spawn what shall go on without it",
            )
        chain = self.chain(parent[0])
        if len(chain) >= DEEPEST:
            self.give_up(chain)
            raise EngineRefused(
                f"calls within calls, {DEEPEST} deep",
                why=f"{self.told(chain)}; each of them holds a worker while it waits, and this looks like a recursion "
                "that does not end",
                fix="end the recursion sooner, or make it a loop in one function",
            )

    def awaits(self, above: str, job: str) -> None:
        """`above` has called `job` and waits for it."""
        self._below.setdefault(above, {})[job] = None
        self.above[job] = above

    def below(self, job: str) -> list[str]:
        """The calls that a job waits for."""
        return list(self._below.get(job, ()))

    def give_up(self, chain: Iterable[str]) -> None:
        """No attempt of these would end otherwise."""
        self._hopeless.update(chain)

    def is_hopeless(self, job: str) -> bool:
        """Whether trying the job again would only end as deep again: with a retry at each level, 2^50 times."""
        return job in self._hopeless

    def waits(self, job: str) -> bool:
        """Whether the job waits for calls of its own."""
        return job in self._below

    # ── ends ──────────────────────────────────────────────────────────────────────────────────────

    def ended(self, job: str, why: str) -> None:
        """A job has ended, or an attempt of it: nobody waits any more for what that has called."""
        if not (self.above or self._below or self._hopeless):
            return
        self.abandon(job, why)
        self._hopeless.discard(job)
        above = self.above.pop(job, None)
        if above is not None and (siblings := self._below.get(above)) is not None:
            siblings.pop(job, None)
            if not siblings:
                del self._below[above]

    def abandon(self, job: str, why: str) -> None:
        """Cancels everything below a job, the deepest first."""
        for child in list(self._below.get(job, ())):
            self.abandon(child, why)
            self.cancel(child, why)

    def chain(self, job: str) -> list[str]:
        """The job and all above it."""
        chain = [job]
        while (above := self.above.get(chain[-1])) is not None:
            chain.append(above)
        return chain


def runs(worker: Worker, caller: Caller) -> bool:
    """Whether that attempt is at the worker, or that call."""
    job, attempt = caller
    return any(each.job == job and each.attempt == attempt for each in worker.inflight) or any(
        each.id == job for each in worker.requests.values()
    )


def waits_for_calls(lineage: Lineage, worker: Worker) -> bool:
    """Whether a worker can only wait: all that it runs awaits calls of its own, and it has room for no more."""
    if worker.requests:
        room = worker.pool.spec.concurrency - len(worker.requests)
        return room <= 0 and all(lineage.waits(each.id) for each in worker.requests.values())
    front = worker.front
    return front is not None and lineage.waits(front.job)
