"""What the store keeps beside jobs: items, progress, webhooks, files, events. The words are those of `base.Store`."""

from __future__ import annotations

import json
from collections.abc import Iterable

from runpod_flash.engine.store.rows import StoredChunk
from runpod_flash.engine.store.statements import Statements


class Beside(Statements):
    """What jobs yield and say before their end, and who is to be told of it."""

    def say_progress(self, job: str, progress: str) -> None:
        self._do("UPDATE jobs SET progress = ? WHERE id = ?", (progress, job))

    def give(self, job: str, items: int) -> None:
        self._do("UPDATE jobs SET given = ? WHERE id = ?", (items, job))

    def add_webhook(self, job: str, url: str) -> bool:
        was_due = self._do("DELETE FROM webhooks WHERE job = ? RETURNING due_ms", (job,)).fetchall()
        self._do("INSERT INTO webhooks (job, url) VALUES (?, ?)", (job, url))
        return bool(was_due) and was_due[0][0] is not None

    def webhook(self, job: str) -> str | None:
        row = self._do("SELECT url FROM webhooks WHERE job = ?", (job,)).fetchone()
        return row[0] if row else None

    def webhooks_ahead(self) -> list[str]:
        rows = self._do("SELECT job FROM webhooks JOIN jobs ON jobs.id = job WHERE due_ms IS NULL AND state < 4")
        return [row[0] for row in rows.fetchall()]

    def webhooks_pending(self) -> int:
        return int(self._do("SELECT count(*) FROM webhooks WHERE due_ms IS NOT NULL").fetchone()[0])

    def webhook_due(self, job: str, due_ms: int) -> None:
        self._do("UPDATE webhooks SET due_ms = ? WHERE job = ?", (due_ms, job))

    def webhook_tried(self, job: str, due_ms: int | None, tries: int, error: str) -> bool:
        statement = "UPDATE webhooks SET due_ms = ?, tries = ?, error = ? WHERE job = ? AND due_ms IS NOT NULL"
        return self._do(statement, (due_ms, tries, error, job)).rowcount == 1

    def webhooks_due(self, limit: int) -> list[tuple[str, str, int, int]]:
        statement = "SELECT job, url, due_ms, tries FROM webhooks WHERE due_ms IS NOT NULL ORDER BY due_ms LIMIT ?"
        return self._do(statement, (limit,)).fetchall()

    def add_chunk(self, job: str, chunk: StoredChunk) -> None:
        self._run("chunk", (job, *chunk))

    def chunks(self, job: str, first: int, limit: int) -> list[StoredChunk]:
        return [StoredChunk._make(row) for row in self._run("chunks", (job, first, limit)).fetchall()]

    def chunk_count(self, job: str) -> int:
        return int(self._run("chunk_count", (job,)).fetchone()[0])

    def drop_chunks(self, job: str, before: int) -> list[str]:
        heads = [row[0] for row in self._run("drop_chunks", (job, before)).fetchall() if row[0] is not None]
        names = [blob for head in heads for _index, blob, _size in json.loads(head).get("blobs", ())]
        if names:
            these = "IN (SELECT value FROM json_each(?))"
            self._do(f"DELETE FROM blobs WHERE job = ? AND id {these}", (job, json.dumps(names)))
        return names

    def idempotent(self, endpoint: int, key: str) -> str | None:
        row = self._do("SELECT job FROM idempotency WHERE endpoint_id = ? AND key = ?", (endpoint, key)).fetchone()
        return row[0] if row else None

    def remember_idempotent(self, endpoint: int, key: str, job: str) -> None:
        self._do("INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?)", (endpoint, key, job))

    def add_blobs(self, job: str, blobs: Iterable[tuple[int, str, int]]) -> None:
        for _index, blob, size in blobs:
            self._do("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?)", (blob, job, size))

    def add_event(
        self, kind: str, now_ms: int, data: str, *, job: str | None = None, endpoint: int | None = None
    ) -> None:
        self._run("event", (job, endpoint, now_ms, kind, data))

    def add_span(self, span: tuple[str, int, str, str, int, int, int, bool]) -> None:
        self._run("span", span)
