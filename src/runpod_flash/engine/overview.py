"""How endpoints, pools and workers stand: the rows behind `flash ps`.

Most of it is in memory. What waits for a later time, and when a pool was last declared, only the store knows; what
is in use right now, only the host does. Both are asked first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from runpod_flash.engine.reasons import Delayed, reason_of, told_of
from runpod_flash.engine.records import Endpoint, Pool, Worker
from runpod_flash.engine.state import State
from runpod_flash.wire.messages import Rows

Facts = dict[str, Any]


class OnRecord(NamedTuple):
    """What the store knows of pools."""

    delayed: Mapping[int, Delayed] = {}
    used_ms: Mapping[int, int] = {}


class Overview:
    """Endpoints with their pools and workers, as rows."""

    def __init__(self, state: State) -> None:
        self._state = state

    def on_record(self) -> OnRecord:
        """Runs in the reading thread."""
        read = self._state.store.read
        waiting = "SELECT pool_id, count(*) AS n, min(ready_ms) AS next FROM jobs WHERE state = 1 GROUP BY pool_id"
        return OnRecord(
            {row["pool_id"]: Delayed(row["n"], row["next"]) for row in read(waiting)},
            {row["id"]: row["used_ms"] for row in read("SELECT id, used_ms FROM pools")},
        )

    def endpoints(self, known: OnRecord, measured: Sequence[Facts] = ()) -> Rows:
        """Every endpoint."""
        uses = _Uses(measured)
        return Rows(rows=[self._endpoint(endpoint, known, uses) for endpoint in self._state.endpoints.values()])

    def workers(self) -> Rows:
        """Every worker there is."""
        return Rows(
            rows=[
                {**self._worker(one, _Uses(())), "endpoint": one.pool.endpoint.spec.name}
                for one in self._state.workers.values()
            ]
        )

    def _endpoint(self, endpoint: Endpoint, known: OnRecord, uses: _Uses) -> Facts:
        spec = endpoint.spec
        workers = [worker for pool in endpoint.pools for worker in pool.workers.values()]
        reasons = {pool.id: reason_of(self._state, pool, known.delayed.get(pool.id)) for pool in endpoint.pools}
        first = next((reason for reason in reasons.values() if reason), None)
        used = {pool.id: known.used_ms.get(pool.id, 0) for pool in endpoint.pools}
        newest = max(used, key=lambda number: (used[number], number), default=None)
        return {
            "id": spec.id,
            "app": spec.app,
            "env": spec.env,
            "name": spec.name,
            "kind": spec.kind,
            "url": self._url(endpoint),
            "workers_min": spec.workers_min,
            "workers_max": spec.workers_max,
            "idle_timeout_s": spec.idle_timeout_s,
            "queued": sum(pool.queued for pool in endpoint.pools)
            + sum(len(one.inflight) - _running(one) for one in workers),
            "delayed": sum(known.delayed[pool.id].number for pool in endpoint.pools if pool.id in known.delayed),
            "running": sum(map(_running, workers)),
            "held": bool(endpoint.holders),
            "away": spec.is_withdrawn or not endpoint.served,
            "used_at_ms": max(used.values(), default=0) or None,
            "why": first.why if first else "",
            "waits": told_of(first),
            "pools": [
                {**self._pool(pool, known), "newest": pool.id == newest, "waits": told_of(reasons[pool.id])}
                for pool in endpoint.pools
            ],
            "workers": [self._worker(worker, uses) for worker in workers],
        }

    def _url(self, endpoint: Endpoint) -> str | None:
        """Where it is asked over HTTP. By its id: of the same name there may be another some day."""
        gateway = self._state.gateway_url
        return f"{gateway}/lb/{endpoint.spec.id}" if gateway and endpoint.spec.kind == "lb" else None

    def _pool(self, pool: Pool, known: OnRecord) -> Facts:
        delayed = known.delayed.get(pool.id)
        return {
            "id": pool.id,
            "key": pool.key,
            "environment": pool.environment.lock,
            "state": pool.environment.state,
            "queued": pool.queued,
            "delayed": delayed.number if delayed else 0,
            "used_at_ms": known.used_ms.get(pool.id),
            "failed_starts": pool.failed_starts,
            "last_error": pool.last_error,
        }

    def _worker(self, worker: Worker, uses: _Uses) -> Facts:
        front = worker.front
        use = uses.workers.get(worker.id, {})
        return {
            "worker": worker.id,
            "pool": worker.pool.id,
            "host": worker.host,
            "state": "away" if worker.link is None and worker.state == "busy" else worker.state,
            "pid": worker.pid,
            "start": worker.how,
            "rss_kb": worker.rss_kb,
            "memory_kb": use.get("memory_kb"),
            "processes": use.get("processes"),
            "cpu_ms": worker.cpu_ms,
            "cpu_percent": use.get("cpu_percent"),
            "job": front.job if front else "",
            "fn": front.fn.spec.name if front else "",
            "job_since_at_ms": self._begun(worker),
            "inflight": len(worker.inflight),
            "launched_at_ms": worker.launched_ms,
            "gpus": list(worker.gpus),
            "ports": {str(wanted): given for wanted, given in worker.ports.items()},
            "cards": [uses.cards[gpu] for gpu in worker.gpus if gpu in uses.cards],
        }

    def _begun(self, worker: Worker) -> int | None:
        if worker.front is None or not worker.front.begun_at:
            return None
        ago = self._state.clock.monotonic() - worker.front.begun_at
        return self._state.clock.wall_ms() - round(ago * 1000)


def _running(worker: Worker) -> int:
    """How many of its jobs run: the first one, or of a program all of them."""
    return len(worker.inflight) if worker.pool.asks else min(1, len(worker.inflight))


class _Uses:
    """What the host measured, by worker and by card."""

    def __init__(self, rows: Sequence[Facts]) -> None:
        self.workers = {row["worker"]: row for row in rows if "worker" in row}
        self.cards = {row["gpu"]: row for row in rows if "gpu" in row}
