"""Calls that can never start, because what they need is held by those that wait for them.

A worker that only waits lends its place, but not its memory, its cards or the instances that live in it. Where all that
could make room waits for calls that need that very room, nobody would ever go on: one of these calls is ended, with an
error that names the chain of calls, so that its caller does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from runpod_flash.engine.lineage import waits_for_calls
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Function, Pool, Request, Worker
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import State
from runpod_flash.model.job import ErrorKind, JobState
from runpod_flash.wire.messages import ErrorInfo

_AGAIN_S: Final = 0.25
_ENDS: Final = 6
"""Calls that are told of each end of a long chain."""


class Waiting:
    """A call within a call that is at no worker."""

    __slots__ = ("fn", "instance", "job", "request")

    def __init__(self, job: str, fn: Function, instance: str, request: Request | None) -> None:
        self.job = job
        self.fn = fn
        self.instance = instance
        self.request = request


class Deadlocks:
    """Finds circles of calls that wait for one another, and breaks them."""

    def __init__(self, state: State, queue: Queue, relay: Relay) -> None:
        self._state = state
        self._queue = queue
        self._relay = relay
        self._due = False
        state.lineage.told = self.told

    def told(self, chain: Iterable[str]) -> str:
        """A chain of calls, the innermost first, in words."""
        return _in_words(reversed([self._name(job) for job in chain]))

    def look(self) -> None:
        """Ends one call if there is a circle; comes back by itself as long as there could be one."""
        lineage = self._state.lineage
        if not lineage.above or self._state.host is None or self._state.draining:
            return
        stuck = [worker for worker in self._state.workers.values() if self._only_waits(worker)]
        if not any(worker.gpus or worker.instances or worker.pool.placement.memory_mb for worker in stuck):
            return
        waiting = {one.job: one for worker in stuck for one in self._waiting_below(worker)}
        if not waiting:
            return
        if not self._due:
            self._due = True
            self._state.call_later(_AGAIN_S, self._look_again)
        self._settle(stuck, waiting)
        hopeless = [one for worker in stuck for one in self._waiting_below(worker) if one.job in waiting]
        if hopeless:
            self._end(max(hopeless, key=lambda one: one.job), stuck)  # the call that came last

    def _look_again(self) -> None:
        self._due = False
        self.look()

    # ── who can go on ─────────────────────────────────────────────────────────────────────────────

    def _only_waits(self, worker: Worker) -> bool:
        lineage = self._state.lineage
        if worker.requests:
            return all(lineage.waits(each.id) for each in worker.requests.values())
        return worker.front is not None and lineage.waits(worker.front.job)

    def _waiting_below(self, worker: Worker) -> Iterator[Waiting]:
        """What a worker waits for that has not begun."""
        for job in _jobs(worker):
            for child in self._state.lineage.below(job):
                if (one := self._waiting(child)) is not None:
                    yield one

    def _waiting(self, job: str) -> Waiting | None:
        if job in self._state.active:
            return None
        request = self._relay.request(job)
        if request is not None:
            return Waiting(job, request.fn, request.instance, request) if request.worker is None else None
        row = self._state.store.job(job)
        if row is None or row["state"] != JobState.READY or row["fn"] not in self._state.functions:
            return None
        return Waiting(job, self._state.functions[row["fn"]], row["instance"] or "", None)

    def _settle(self, stuck: list[Worker], waiting: dict[str, Waiting]) -> None:
        """Takes out, again and again, who has a call that can begin or is under way: it may go on, and make room."""
        going_on = True
        while going_on:
            going_on = False
            for worker in list(stuck):
                calls = [child for job in _jobs(worker) for child in self._state.lineage.below(job)]
                if not all(self._is_stuck(child, stuck, waiting) for child in calls):
                    stuck.remove(worker)
                    going_on = True

    def _is_stuck(self, job: str, stuck: list[Worker], waiting: dict[str, Waiting]) -> bool:
        if (one := waiting.get(job)) is not None:
            return self._why(one, stuck) != ""
        return any(job in _jobs(worker) for worker in stuck)

    def _why(self, one: Waiting, stuck: list[Worker]) -> str:
        """What a call lacks even if everybody but these ends; "" if it lacks nothing then."""
        pool = one.fn.pool
        home = pool.homes.get(one.instance) if one.instance else None
        if home is not None:
            return f"the worker of its instance, {home.id}" if home in stuck else ""
        if any(worker not in stuck for worker in pool.workers.values()):
            return ""
        return self._lacks(pool, stuck)

    def _lacks(self, pool: Pool, stuck: Iterable[Worker]) -> str:
        host, needs = self._state.host, pool.placement
        machine = host.machine if host is not None else None
        if machine is None:
            return ""
        leased = {card for worker in stuck for card in worker.gpus}
        if needs.gpus and len(set(needs.cards) - leased) < needs.gpus:
            return "a GPU" if needs.gpus == 1 else f"{needs.gpus} GPUs"
        held = sum(worker.pool.placement.memory_mb or 0 for worker in stuck)
        if machine.memory_mb and (needs.memory_mb or 0) > machine.memory_mb - held:
            return f"{needs.memory_mb} MB of memory"
        lineage, spec = self._state.lineage, pool.endpoint.spec
        here = sum(each.pool.endpoint is pool.endpoint and not waits_for_calls(lineage, each) for each in stuck)
        return f"a worker of workersMax={spec.workers_max}" if here >= spec.workers_max else ""

    # ── the way out ───────────────────────────────────────────────────────────────────────────────

    def _end(self, one: Waiting, stuck: list[Worker]) -> None:
        lineage, lacks = self._state.lineage, self._why(one, stuck)
        chain = lineage.chain(one.job)
        lineage.give_up(chain)
        names = [_called(one.fn), *(self._name(job) for job in chain[1:])]
        error = ErrorInfo(
            type="EngineRefused",
            module="runpod_flash.errors",
            message=f"{_called(one.fn)} can never start: it waits for {lacks}, held by calls that wait for it: "
            f"{_in_words(reversed(names))}. A worker that waits keeps its memory, its GPUs and its instances. "
            "Call it from your program, or from a function that holds none of these",
            kind=ErrorKind.STUCK,
        )
        if one.request is not None:
            self._relay.fail(one.request, error)
        else:
            self._queue.fail(one.job, error)
        self._state.replan()

    def _name(self, job: str) -> str:
        active = self._state.active.get(job)
        request = self._relay.request(job)
        fn = active.fn if active is not None else request.fn if request is not None else None
        return _called(fn) if fn is not None else job


def _jobs(worker: Worker) -> list[str]:
    if worker.requests:
        return [each.id for each in worker.requests.values()]
    return [worker.front.job] if worker.front is not None else []


def _called(fn: Function) -> str:
    return f"{fn.spec.name.rpartition(':')[2]} on {fn.pool.endpoint.spec.name!r}"


def _in_words(names: Iterable[str]) -> str:
    """A chain of calls in words, the outermost first: `a → b → c (3 times)`."""
    links = [(name, len(list(same))) for name, same in groupby(names)]
    words = [f"{name} ({count} times)" if count > 1 else name for name, count in links]
    if len(words) > 2 * _ENDS:
        words[_ENDS:-_ENDS] = ["…"]
    return " → ".join(words)
