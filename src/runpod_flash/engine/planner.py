"""When the plan is made, and how it is carried out."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from runpod_flash.engine import plan as planning
from runpod_flash.engine import views
from runpod_flash.engine.deadlock import Deadlocks
from runpod_flash.engine.dispatcher import IDLE_GRACE_MS, Dispatcher
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Pool
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.snapshot import snapshot_of
from runpod_flash.engine.starts import Starts
from runpod_flash.engine.state import State

_PLAN_PAUSE_S: Final = 0.01
_FARTHEST_LOOK_S: Final = 86_400.0
_WAIT_NOTICE_S: Final = 1.0


class Planner:
    """Makes the plan whenever something has changed, or time alone may have changed it."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        queue: Queue,
        relay: Relay,
        followers: Followers,
        environments: Environments,
        starts: Starts,
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._followers = followers
        self._environments = environments
        self._starts = starts
        self._deadlocks = Deadlocks(state, queue, relay)
        self._planned_at = 0.0
        self._plan_due = False
        self._look_again: asyncio.TimerHandle | None = None
        self._look_at = math.inf

    # ── when ──────────────────────────────────────────────────────────────────────────────────────

    def replan(self) -> None:
        """Something changed: plan in this turn, or, right after another plan, a moment later."""
        if self._plan_due:
            return
        self._plan_due = True
        at = max(self._planned_at + _PLAN_PAUSE_S, self._state.resume_at)
        self._state.call_later(max(0.0, at - self._state.clock.monotonic()), self._plan)

    def look_by(self, at: float) -> None:
        """Time alone may change the plan by then (monotonic); an earlier look finds that out as well."""
        if at < self._look_at:
            self._look_later(int((at - self._state.clock.monotonic()) * 1000))

    def _look_later(self, after_ms: int | None) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        self._look_at = math.inf
        if after_ms is not None:
            wait = min(after_ms / 1000 + 0.001, _FARTHEST_LOOK_S)
            self._look_at = self._state.clock.monotonic() + wait
            self._look_again = self._state.call_later(wait, self._look)

    def _look(self) -> None:
        self._look_at = math.inf
        self.replan()

    # ── what ──────────────────────────────────────────────────────────────────────────────────────

    def _plan(self) -> None:
        self._plan_due = False
        now = self._state.clock.monotonic()
        if now < self._state.resume_at:
            self.replan()
            return
        self._planned_at = now
        for pool in self._state.pools.values():
            self._dispatcher.serve(pool)
        snapshot = snapshot_of(self._state)
        actions = planning.plan(snapshot)
        waits = {action.pool: action for action in actions if isinstance(action, views.Waits)}
        self._state.hungry = bool(waits)
        for pool in self._state.pools.values():
            self._explain(pool, waits.get(pool.id))
        for action in actions:
            self._carry_out(action)
        self._look_later(planning.look_again_ms(snapshot))
        self._deadlocks.look()

    def _carry_out(self, action: views.Action) -> None:
        match action:
            case views.EnsureEnv(pool):
                self._environments.ensure(self._state.pools[pool])
            case views.Launch(pool, gpus):
                self._starts.launch(self._state.pools[pool], gpus)
            case views.StopWorker(worker, why):
                self._dispatcher.stop(self._state.workers[worker], why, grace_ms=IDLE_GRACE_MS)
            case views.DrainWorker(worker, why):
                self._dispatcher.drain(self._state.workers[worker], why)
            case _:
                pass

    def _explain(self, pool: Pool, waits: views.Waits | None) -> None:
        """Remembers what a pool waits for, and tells the callers if it lasts."""
        code, why = (waits.code, waits.why) if waits else ("", "")
        if code != pool.wait_code:
            pool.wait_code, pool.waits_since = code, self._state.clock.monotonic()
        if why == pool.why:
            return
        pool.why = why
        if why:
            self._state.call_later(_WAIT_NOTICE_S, self._tell_wait, pool, why)

    def _tell_wait(self, pool: Pool, why: str) -> None:
        """Whoever waits is told, unless a build shows itself anyway or a plan that is due may know better."""
        if self._plan_due or pool.environment.state != "ready" or self._state.pools.get(pool.id) is not pool:
            return
        if pool.why == why and pool.waiting:
            for job in self._environments.those_who_wait(pool):
                self._followers.state(job, "IN_QUEUE", why=why)
