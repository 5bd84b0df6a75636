"""How an engine takes up what the store says: at its start, and again after a turn that could not be committed."""

from __future__ import annotations

from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.deployments import Deployments
from runpod_flash.engine.dispatcher import active
from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.records import Active, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import State
from runpod_flash.engine.webhooks import Webhooks
from runpod_flash.wire.messages import ErrorInfo


class Recovery:
    """From the store to memory, and from there to what has to be done about it."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        deployments: Deployments,
        fleet: Fleet,
        webhooks: Webhooks,
        hosts: Hosts,
        attempts: Attempts,
    ) -> None:
        self._state = state
        self._registry = registry
        self._deployments = deployments
        self._fleet = fleet
        self._webhooks = webhooks
        self._hosts = hosts
        self._attempts = attempts
        self._lost: list[tuple[Active, str]] = []  # jobs whose worker is not on record
        self._dead_hosts: list[str] = []

    def remember(self) -> None:
        """Reads into memory what the store says. Writes nothing: the disk may be full."""
        state, store = self._state, self._state.store
        self._registry.recover()
        self._deployments.recover()
        for pool_id, instance, count, size in store.waiting():
            state.pools[pool_id].enter(size, instance, count)
        state.of_low_priority.update(store.pools_of_low_priority())
        self._fleet.recover()
        state.lineage.recover(store.awaited_below())
        self._webhooks.recover()
        self._dead_hosts = self._hosts.recover()
        self._remember_live()

    def _remember_live(self) -> None:
        """Jobs that were at a worker; those of workers that do not come back are found out about later."""
        self._lost.clear()
        now = self._state.clock.monotonic()
        for live in self._state.store.live():
            job = active(live.claimed, self._state.functions[live.claimed.fn], live.assigned_ms)
            job.cancelling, job.expired = "asked for" if live.cancelling else "", live.expired
            self._state.active[job.job] = job
            worker = self._state.workers.get(live.worker)
            if worker is None:
                self._lost.append((job, live.worker))
                continue
            job.begun_at = 0.0 if worker.inflight else now
            worker.loaded[job.fn.spec.name] = job.fn.spec.version
            worker.inflight.append(job)

    def take_up(self) -> None:
        """Goes on from there: ends what is known to be gone, and looks for what should be here."""
        now = self._state.clock.wall_ms()
        for name in self._dead_hosts:
            self._state.turn.write().end_host(name, now)
        for job, name in self._lost:
            worker = Worker(name, job.fn.pool, "", "", state="stopping")
            why = ErrorInfo(type="WorkerLost", message="its worker is not on record", kind="lost")
            self._attempts.lost(job, worker, started=True, why=why)
        self._dead_hosts, self._lost = [], []
        self._hosts.look()
        self._state.replan()
