"""The environments that pools need: asked of the host, built, or failed for a reason that their callers are told."""

from __future__ import annotations

import itertools
from typing import Final

from runpod_flash.engine.followers import Followers
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Environment, Phase, Pool
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import State
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import CancelEnv, EnsureEnv, EnvState, ErrorInfo

_TOLD: Final = 50
"""Waiting jobs whose followers are told what a pool waits for, or see its build."""
_AGAIN_AFTER_S: Final = 30.0
_WORTH_TELLING_MS: Final = 50


class Environments:
    """Has environments built, and hears how that goes."""

    def __init__(self, state: State, hosts: Hosts, queue: Queue, followers: Followers, relay: Relay) -> None:
        self._state = state
        self._hosts = hosts
        self._queue = queue
        self._followers = followers
        self._relay = relay

    def ensure(self, pool: Pool) -> None:
        """Has the pool's environment built, unless that is under way. Without a host, one is started first."""
        host, environment = self._hosts.connected(), pool.environment
        if host is None or environment.state != "unknown":
            return
        environment.state = "building"
        environment.asked_at = self._state.clock.monotonic()
        environment.ready_at = 0.0
        spec = pool.spec
        request = EnsureEnv(
            env=environment.key,
            interpreter=spec.interpreter,
            abi=spec.abi,
            requirements=list(spec.requirements),
            system=list(spec.system),
            index=spec.index,
            variables=spec.base_env,
            runtime=spec.runtime,
            accelerate=spec.accelerate,
            mirror=spec.mirror,
        )
        self._state.turn.send(host.link, request.encode(sid=self._hosts.next_sid()))

    def said(self, head: EnvState) -> None:
        """A build goes on, is done, or has failed."""
        environment = self._state.environments.get(head.env)
        if environment is None:
            return
        if head.line:
            environment.lines.append(head.line)
        for pool in environment.pools:
            if pool.phase is Phase.STAGED:
                self._state.staged_build(pool, head)
            if pool.waiting:
                self._followers.environment(self.those_who_wait(pool), head)
        if head.phase == "ready":
            self._ready(environment, head)
        elif head.phase == "failed":
            self._failed(environment, head)

    def those_who_wait(self, pool: Pool) -> list[str]:
        """The first of the jobs or calls that wait at a pool."""
        queued = self._state.store.waiting_ids(pool.id, _TOLD) if pool.queued else []
        return [*queued, *itertools.islice((request.id for request in pool.requests), _TOLD)]

    def cancel_unwanted(self) -> None:
        """Ends the builds that nobody waits for any more."""
        host = self._state.host
        for environment in self._state.environments.values():
            if environment.state == "building" and host is not None and host.link and not _is_wanted(environment):
                environment.state = "unknown"
                self._state.turn.send(host.link, CancelEnv(env=environment.key).encode())

    def _ready(self, environment: Environment, head: EnvState) -> None:
        environment.state, environment.path, environment.lock = "ready", head.path, head.lock
        environment.ready_at = self._state.clock.monotonic()
        environment.blocked_until = 0.0
        if head.ms > _WORTH_TELLING_MS:
            self._state.event("environment_built", {"environment": head.lock, "ms": head.ms})
        self._state.replan()

    def _failed(self, environment: Environment, head: EnvState) -> None:
        environment.state = "unknown"
        environment.blocked_until = self._state.clock.monotonic() + _AGAIN_AFTER_S
        self._state.call_later(_AGAIN_AFTER_S + 0.01, self._state.replan)
        name = "SystemPackageError" if head.code == "system_package" else "DependencyError"
        error = ErrorInfo(type=name, module="runpod_flash.errors", message=head.error, kind=ErrorKind.ENV)
        for pool in environment.pools:
            data = {"error": head.error.partition("\n")[0], "jobs": pool.waiting}
            self._state.event("environment_failed", data, endpoint=pool.endpoint.id)
            if pool.phase is Phase.STAGED:
                self._state.staged_failed(pool, head.error)
            self._queue.fail_waiting(pool, error)
            self._relay.fail_waiting(pool, error)


def _is_wanted(environment: Environment) -> bool:
    return any(
        pool.waiting
        or pool.phase is Phase.STAGED
        or (pool.endpoint.spec.workers_min and (pool.endpoint.holders or pool.endpoint.deployed))
        for pool in environment.pools
    )
