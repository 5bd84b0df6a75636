"""Endpoints looked after over HTTP: which there are, how far they scale, and that nothing of one goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runpod_flash.engine.dispatcher import Dispatcher
from runpod_flash.engine.purge import Done
from runpod_flash.engine.records import Endpoint, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import State
from runpod_flash.errors import ConfigError


class HttpEndpoints:
    """The registry's face towards the gateway."""

    def __init__(self, state: State, registry: Registry, dispatcher: Dispatcher) -> None:
        self._state = state
        self._registry = registry
        self._dispatcher = dispatcher

    def all(self) -> list[Endpoint]:
        """Every endpoint, load-balanced ones too."""
        return list(self._state.endpoints.values())

    def workers(self, endpoint: Endpoint) -> list[Worker]:
        """Its workers."""
        return [worker for pool in endpoint.pools for worker in pool.workers.values()]

    def age_s(self, worker: Worker) -> int:
        """For how long a worker has been ready."""
        return int(self._state.clock.monotonic() - worker.ready_at) if worker.ready_at else 0

    def change(self, endpoint: Endpoint, changes: Mapping[str, Any]) -> None:
        """Changes how it scales, until the program that declares it says otherwise. ConfigError for what cannot be."""
        spec = replace(endpoint.spec, **changes)
        if not 0 <= spec.workers_min <= spec.workers_max or spec.workers_max < 1:
            raise ConfigError(
                f"{spec.workers_min} to {spec.workers_max} workers are not possible",
                why="0 <= workersMin <= workersMax, and workersMax is 1 at least",
            )
        if spec == endpoint.spec:
            return
        self._registry.rename(endpoint, spec)
        told = ", ".join(f"{name} → {value}" for name, value in sorted(changes.items()))
        self._state.event("endpoint_changed", {"changes": f"over HTTP: {told}"}, endpoint=endpoint.id)
        self._state.replan()

    def end(self, endpoint: Endpoint, then: Done, purge: Callable[[dict[str, Any], Done], None]) -> None:
        """Cancels what waits, and lets the workers go once they have done what they have."""
        if endpoint.spec.origin != "script":
            raise ConfigError(
                f"endpoint {endpoint.spec.name!r} is {endpoint.spec.origin}, and stays until it is taken back",
                why="what was deployed or is served outlives the program that asked for it",
                fix="flash undeploy, or end `flash serve`",
            )
        self.change(endpoint, {"workers_min": 0})
        for worker in self.workers(endpoint):
            self._dispatcher.drain(worker, "deleted")
        purge({"endpoint": endpoint.spec.id}, then)
