"""Hosts and workers in the store. See `base.Store`, whose words these are."""

from __future__ import annotations

import json

from runpod_flash.engine.store.rows import WorkerRow
from runpod_flash.engine.store.statements import Statements


class Presence(Statements):
    """Who was started, and has not ended as far as is known."""

    def add_host(self, host: str, key_hash: str, pid: int, machine: str, now_ms: int) -> None:
        self._do(
            "INSERT OR REPLACE INTO hosts VALUES (?, ?, ?, ?, ?, NULL)",
            (host, key_hash, pid, machine, now_ms),
        )

    def end_host(self, host: str, now_ms: int) -> None:
        self._do("UPDATE hosts SET ended_ms = ? WHERE id = ?", (now_ms, host))
        self._do("DELETE FROM hosts WHERE ended_ms < ?", (now_ms - 86_400_000,))

    def open_hosts(self) -> list[tuple[str, str, int]]:
        return self._do("SELECT id, key_hash, pid FROM hosts WHERE ended_ms IS NULL").fetchall()

    def add_worker(self, worker: str, pool: int, host: str, key_hash: str, gpus: str, now_ms: int) -> None:
        self._do(
            "INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
            (worker, pool, host, key_hash, gpus, now_ms),
        )

    def worker_ready(self, worker: str, now_ms: int) -> None:
        self._do("UPDATE workers SET ready_ms = coalesce(ready_ms, ?) WHERE id = ?", (now_ms, worker))

    def end_worker(self, worker: str, end: str, now_ms: int) -> None:
        self._do(
            "UPDATE workers SET ended_ms = ?, end = ? WHERE id = ? AND ended_ms IS NULL",
            (now_ms, end, worker),
        )
        self._do("DELETE FROM workers WHERE ended_ms < ?", (now_ms - 86_400_000,))

    def open_workers(self) -> list[WorkerRow]:
        rows = self._do(
            "SELECT id, pool_id, host, key_hash, gpus, launched_ms, ready_ms FROM workers WHERE ended_ms IS NULL"
        ).fetchall()
        return [
            WorkerRow(row[0], row[1], row[2], row[3], tuple(json.loads(row[4])), row[5], row[6] is not None)
            for row in rows
        ]
