"""How workers are started, and what becomes of the calls of a pool whose workers cannot."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from runpod_flash.engine import program_variables
from runpod_flash.engine.hosts import Hosts, key_hash
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Phase, Pool, Worker
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import State
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import ErrorInfo, Launch
from runpod_flash.wire.secrets import Secrets

_START_TRIES: Final = 3
_FIRST_BLOCK_S: Final = 0.2
_LONGEST_BLOCK_S: Final = 30.0


class Starts:
    """Store first, then the host: a worker is on record before it is launched.

    So one that the engine forgot in a crash is adopted or ended when its host reconnects, never leaked.
    """

    def __init__(self, state: State, hosts: Hosts, queue: Queue, relay: Relay) -> None:
        self._state = state
        self._hosts = hosts
        self._queue = queue
        self._relay = relay
        state.undeployed = self._undeployed
        hosts.cannot_start = self._nothing_can_start

    def launch(self, pool: Pool, gpus: tuple[int, ...]) -> None:
        """Has the host start a worker with these cards; without a host, one is started first."""
        host = self._hosts.connected()
        if host is None:
            return
        try:
            secret = self._secrets_of(pool)
        except (OSError, ValueError) as error:
            self.failed(pool, f"the secrets of its app cannot be read: {error}")
            return
        now = self._state.clock.wall_ms()
        name, key = f"w{secrets.token_hex(5)}", secrets.token_hex(16)
        worker = Worker(name, pool, host.id, key_hash(key), gpus=gpus, launched_ms=now)
        worker.launched_at = self._state.clock.monotonic()
        gpu_text = msgspec.json.encode(list(gpus)).decode()
        self._state.turn.write().add_worker(name, pool.id, host.id, worker.key_hash, gpu_text, now)
        self._state.workers[name] = pool.workers[name] = worker
        spec = pool.spec
        launch = Launch(
            worker=name,
            key=key,
            endpoint=pool.endpoint.spec.name,
            env=pool.environment.path,
            runtime=spec.runtime,
            variables=self._variables(worker, key, secret),
            gpus=list(gpus),
            memory_mb=pool.placement.memory_mb,
            cpus=pool.placement.cpus if spec.cpu_limit else 0,
            mounts=list(spec.mounts),
            ports=list(spec.ports),
            at_once=spec.concurrency if pool.endpoint.spec.kind == "lb" else 0,
            program=spec.program,
            application=spec.application,
        )
        self._state.turn.send(host.link, launch.encode(sid=self._hosts.next_sid()))

    def _variables(self, worker: Worker, key: str, secret: dict[str, str]) -> dict[str, str]:
        spec = worker.pool.spec
        if spec.program is None:
            return {**spec.base_env, **secret, **spec.variables}
        return {**secret, **program_variables.variables(worker, key, self._state.gateway_url or "")}

    def _secrets_of(self, pool: Pool) -> dict[str, str]:
        """Those of the app's environment, if it is deployed there. Read now: they are kept nowhere else."""
        spec = pool.endpoint.spec
        return Secrets(self._state.settings.home, spec.app, spec.env).values() if pool.spec.release else {}

    def failed(self, pool: Pool, why: str, *, hopeless: bool = True) -> None:
        """Backs off; after three starts in a row that failed, nothing of this pool can run.

        Not `hopeless` is a program that had started, and ended by itself: perhaps over one job.
        """
        pool.failed_starts += 1
        pool.last_error = why
        pause = min(_LONGEST_BLOCK_S, _FIRST_BLOCK_S * 2.0 ** (pool.failed_starts - 1))
        pool.blocked_until = self._state.clock.monotonic() + pause
        if hopeless and pool.failed_starts % _START_TRIES == 0:
            self._fail_all(pool, f"its workers cannot start ({_START_TRIES} tries):\n{why}")

    def _nothing_can_start(self, why: str) -> None:
        for pool in self._state.pools.values():
            self._fail_all(pool, why)

    def _fail_all(self, pool: Pool, message: str) -> None:
        if pool.phase is Phase.STAGED:
            self._state.staged_failed(pool, message)
        self._end_waiting(
            pool, ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=message, kind=ErrorKind.ENV)
        )

    def _undeployed(self, pool: Pool) -> None:
        message = f"the endpoint {pool.endpoint.spec.name!r} was undeployed"
        self._end_waiting(
            pool,
            ErrorInfo(type="JobCancelled", module="runpod_flash.errors", message=message, kind=ErrorKind.CANCELLED),
        )

    def _end_waiting(self, pool: Pool, error: ErrorInfo) -> None:
        self._relay.fail_waiting(pool, error)
        if pool.queued:
            self._queue.fail_waiting(pool, error)
