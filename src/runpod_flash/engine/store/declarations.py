"""Endpoints, pools, functions and definitions in the store. See `base.Store`, whose words these are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runpod_flash.engine.store.statements import Statements


class Declarations(Statements):
    """What was declared."""

    def save_endpoint(self, public_id: str, spec: bytes, now_ms: int) -> int:
        statement = """INSERT INTO endpoints (public_id, spec, created_ms, declared_ms) VALUES (?1, ?2, ?3, ?3)
                       ON CONFLICT (public_id) DO UPDATE SET spec = ?2, declared_ms = ?3 RETURNING id"""
        return int(self._do(statement, (public_id, spec.decode(), now_ms)).fetchall()[0][0])

    def save_pool(self, endpoint: int, key: str, spec: bytes, now_ms: int) -> int:
        statement = """INSERT INTO pools (endpoint_id, key, spec, created_ms, used_ms) VALUES (?1, ?2, ?3, ?4, ?4)
                       ON CONFLICT (endpoint_id, key) DO UPDATE SET spec = ?3, used_ms = ?4 RETURNING id"""
        return int(self._do(statement, (endpoint, key, spec.decode(), now_ms)).fetchall()[0][0])

    def save_function(self, pool: int, name: str, version: str, digest: str, spec: bytes, now_ms: int) -> int:
        statement = """INSERT INTO functions (pool_id, name, version, digest, spec, used_ms)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (pool_id, name, version, digest)
                       DO UPDATE SET spec = ?5, used_ms = ?6 RETURNING id"""
        return int(self._do(statement, (pool, name, version, digest, spec.decode(), now_ms)).fetchall()[0][0])

    def declarations(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        return (
            self._do("SELECT id, spec FROM endpoints").fetchall(),
            self._do("SELECT id, endpoint_id, key, spec FROM pools").fetchall(),
            self._do("SELECT id, pool_id, spec FROM functions ORDER BY used_ms, id").fetchall(),
        )

    def save_definition(self, digest: str, name: str, body: bytes, now_ms: int) -> None:
        self._do(
            """INSERT INTO definitions (digest, name, body, used_ms) VALUES (?, ?, ?, ?)
               ON CONFLICT (digest) DO UPDATE SET used_ms = excluded.used_ms""",
            (digest, name, body, now_ms),
        )

    def definition(self, digest: str) -> bytes | None:
        row = self._do("SELECT body FROM definitions WHERE digest = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def missing_definitions(self, digests: Sequence[str]) -> list[str]:
        known = self._do(
            "SELECT digest FROM definitions WHERE digest IN (SELECT value FROM json_each(?))",
            (json.dumps(list(digests)),),
        )
        have = {row[0] for row in known}
        return [digest for digest in digests if digest not in have]

    def drop_functions(self, functions: Sequence[int], before_ms: int, newest: int) -> list[int]:
        statement = """DELETE FROM functions WHERE id IN (SELECT value FROM json_each(?)) AND used_ms < ?
                       AND id NOT IN (SELECT fn FROM jobs WHERE seq > ?) RETURNING id"""
        return [row[0] for row in self._do(statement, (json.dumps(functions), before_ms, newest)).fetchall()]

    def drop_pools(self, pools: Sequence[int], before_ms: int) -> list[int]:
        statement = """DELETE FROM pools WHERE id IN (SELECT value FROM json_each(?)) AND used_ms < ?
                       AND id NOT IN (SELECT pool_id FROM functions) RETURNING id"""
        return [row[0] for row in self._do(statement, (json.dumps(pools), before_ms)).fetchall()]

    def drop_endpoint(self, endpoint: int) -> None:
        self._do("DELETE FROM endpoints WHERE id = ?", (endpoint,))

    def drop_definitions(self, digests: Sequence[str], before_ms: int) -> None:
        statement = "DELETE FROM definitions WHERE digest IN (SELECT value FROM json_each(?)) AND used_ms < ?"
        self._do(statement, (json.dumps(digests), before_ms))
