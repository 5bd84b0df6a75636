"""The store in one SQLite file: one connection that writes, one that reads and checkpoints in another thread.

Always WAL with synchronous=NORMAL: a commit survives the death of every process. What has to survive a power
cut waits for a sync of the log file, which covers every commit before it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runpod_flash.engine.store import opening
from runpod_flash.engine.store.apps import Apps
from runpod_flash.engine.store.beside import Beside
from runpod_flash.engine.store.declarations import Declarations
from runpod_flash.engine.store.explain import explain
from runpod_flash.engine.store.log import WriteAheadLog
from runpod_flash.engine.store.presence import Presence
from runpod_flash.engine.store.reader import Reader
from runpod_flash.engine.store.rows import Attempt, Claimed, Ended, LiveJob, NewJob, Returned
from runpod_flash.engine.store.statements import load_queries
from runpod_flash.model.job import LOW_PRIORITY, JobState
from runpod_flash.wire import blobs

_CLAIMED: Final = len(Claimed._fields)
_COMPLETED: Final = JobState.COMPLETED
_ARGS_HEAD: Final = NewJob._fields.index("args_head")
_READY_MS: Final = NewJob._fields.index("ready_ms")
_SELDOM_NEW: Final = slice(_READY_MS, None)
_NO_SELDOM_NEW: Final[Any] = (None,) * len(NewJob._fields[_SELDOM_NEW])
_STATE: Final = Ended._fields.index("state")
_SELDOM_ENDED: Final = slice(_STATE + 1, Ended._fields.index("failures"))
_NO_SELDOM_ENDED: Final[Any] = (None,) * len(Ended._fields[_SELDOM_ENDED])
_AWAITED_KEPT: Final = 500_000
"""Ended jobs of awaited calls at most: at many thousand calls a second, an hour of them would fill the disk."""
_AWAITED_BYTES: Final = 16 << 30
"""Bytes of their large values at most: a hundred megabytes a call would fill the disk in minutes."""
_EVENTS_KEPT_MS: Final = 7 * 86_400_000


def open_store(path: Path, *, durability: str, retention_ms: tuple[int, int] = (3_600_000, 86_400_000)) -> SqliteStore:
    """Opens (or makes) the store at `path`; StoreError when it is corrupt, newer than us, or not writable.

    `retention_ms`: how long results of awaited calls and of spawned jobs are kept.
    """
    store = None
    try:
        store = SqliteStore(path, durability, retention_ms)
        store.prepare()
    except BaseException as error:
        if store is not None:
            store.close()
        if isinstance(error, sqlite3.Error):
            raise explain(error, path) from error
        raise
    return store


class SqliteStore(Declarations, Beside, Presence):
    """See `base.Store`, whose words these are."""

    def __init__(self, path: Path, durability: str, retention_ms: tuple[int, int]) -> None:
        self.path = path
        self.durability = durability
        self.engine_id = ""
        self.secret = b""
        self.start_no = 0
        self.last_wall_ms = 0
        self._retention = retention_ms
        self._sql = load_queries()
        self._db = opening.connect(path)
        self._execute = self._db.execute
        # A cursor of its own for what every job has: to make one takes a microsecond.
        self._often = self._db.cursor().execute
        self._put_at_worker, self._complete = self._sql["put_at_worker"], self._sql["complete"]
        self._reader: Reader | None = None
        self._log: WriteAheadLog | None = None
        self._sent = 0
        self.apps = Apps(self._do)

    # ── opening and closing ───────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Checks, migrates and takes the next start number."""
        with contextlib.suppress(OSError):  # a disk that knows no modes
            self.path.chmod(0o600)
        opening.prepare(self._db, self.path)
        self._db.execute("BEGIN IMMEDIATE")
        self._identify()
        self._db.execute("COMMIT")
        self._reader = Reader(self.path)
        self._log = WriteAheadLog(self.path, self._db, self._reader)
        if self.durability == "power":
            blobs.sync_folder(self.path.parent)

    def _identify(self) -> None:
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        self.engine_id = meta.get("engine_id") or secrets.token_hex(8)
        self.secret = bytes.fromhex(meta.get("secret") or secrets.token_hex(32))
        self.start_no = int(meta.get("start_no", "0")) + 1
        self._sent = self.start_no << 40
        values = {"engine_id": self.engine_id, "secret": self.secret.hex(), "start_no": str(self.start_no)}
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        last = """SELECT max(coalesce(max(created_ms), 0), coalesce(max(ended_ms), 0))
                  FROM (SELECT created_ms, ended_ms FROM jobs ORDER BY seq DESC LIMIT 1000)"""
        self.last_wall_ms = self._db.execute(last).fetchone()[0] or 0

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._db.close()
        if self._log is not None:
            self._log.close()

    @property
    def log(self) -> WriteAheadLog:
        assert self._log is not None, "the store is not prepared"
        return self._log

    # ── transactions ──────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        self._do("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._do("COMMIT")

    def rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._execute("ROLLBACK")

    def _next_sent(self) -> int:
        self._sent += 1
        return self._sent

    # ── the queue ─────────────────────────────────────────────────────────────────────────────────

    def put(self, job: NewJob) -> int | None:
        try:
            return self._often(*self._statement_for(job)).lastrowid
        except sqlite3.IntegrityError:
            return None
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def _statement_for(self, job: NewJob) -> tuple[str, Sequence[Any]]:
        if job.worker and job[_SELDOM_NEW] == _NO_SELDOM_NEW:
            if job.args_head is None:
                return self._put_at_worker, (*job[:_ARGS_HEAD], self._next_sent())
            return self._sql["put_at_worker_with_head"], (*job[:_READY_MS], self._next_sent())
        return self._sql["put"], (*job[:-1], *(job.parent or (None, None)), self._next_sent())

    def claim(self, pool: int, worker: str, now_ms: int) -> Claimed | None:
        rows = self._run("claim", (worker, now_ms, self._next_sent(), pool)).fetchall()
        return Claimed._make(rows[0]) if rows else None

    def claim_apart(
        self, pool: int, worker: str, now_ms: int, mine: str, elsewhere: str, homeless: bool
    ) -> Claimed | None:
        values = (worker, now_ms, self._next_sent(), pool, mine, elsewhere, homeless)
        rows = self._run("claim_apart", values).fetchall()
        return Claimed._make(rows[0]) if rows else None

    def claim_ahead(self, pool: int, fn: int, worker: str, now_ms: int, limit: int) -> list[Claimed]:
        rows = self._run("claim_ahead", (worker, now_ms, self._next_sent(), pool, limit, fn)).fetchall()
        rows.sort(key=lambda row: (-row[1], row[0]))
        return [Claimed._make(row) for row in rows]

    def finish(self, ended: Ended) -> bool:
        completed = ended.state is _COMPLETED and ended.out is not None and ended.out_head is not None
        if completed and ended[_SELDOM_ENDED] == _NO_SELDOM_ENDED:
            statement, values = self._complete, (*ended[:_STATE], *self._retention)
        else:
            statement = self._sql["finish"]
            values = (*ended[:_STATE], int(ended.state), *ended[_STATE + 1 :], *self._retention)
        try:
            return self._often(statement, values).rowcount == 1
        except sqlite3.Error as error:
            raise explain(error, self.path) from error

    def finish_waiting(self, job: str, state: JobState, now_ms: int, error: bytes) -> bool:
        return self._run("finish_waiting", (job, int(state), now_ms, *self._retention, error)).rowcount == 1

    def back(self, returned: Returned) -> bool:
        return self._run("back", returned).rowcount == 1

    def add_attempt(self, attempt: Attempt) -> None:
        self._run("attempt", attempt)

    def losses_of(self, job: str) -> list[bytes]:
        rows = self._do("SELECT error FROM attempts WHERE job = ? AND end = 'lost' ORDER BY epoch", (job,))
        return [row[0] for row in rows.fetchall()]

    def due(self, now_ms: int) -> list[tuple[int, int, str]]:
        return [(pool, size or 0, key or "") for pool, size, key in self._run("due", (now_ms,)).fetchall()]

    def expired(self, now_ms: int) -> list[str]:
        return [row[0] for row in self._run("expired", (now_ms,)).fetchall()]

    def next_times(self) -> tuple[int | None, int | None]:
        due, expires = self._run("next_times").fetchone()
        return due, expires

    def live(self) -> list[LiveJob]:
        rows = self._run("live").fetchall()
        ats = (row[_CLAIMED:] for row in rows)
        return [
            LiveJob(Claimed._make(row[:_CLAIMED]), worker, assigned_ms, cancel_ms is not None, bool(expired))
            for row, (worker, assigned_ms, cancel_ms, expired) in zip(rows, ats, strict=True)
        ]

    def waiting(self) -> list[tuple[int, str, int, int]]:
        return [(pool, key or "", count, int(size)) for pool, key, count, size in self._run("waiting").fetchall()]

    def awaited_below(self) -> list[tuple[str, str]]:
        return [(job, above) for job, above in self._run("awaited_below").fetchall()]

    def oldest(self, pool: int) -> int | None:
        row = self._run("oldest", (pool,)).fetchone()
        return row[0] if row else None

    def of_usual_priority(self, pool: int, limit: int) -> int:
        return int(self._run("of_usual_priority", (pool, LOW_PRIORITY, limit)).fetchone()[0])

    def pools_of_low_priority(self) -> list[int]:
        statement = "SELECT DISTINCT pool_id FROM jobs WHERE state = 0 AND priority <= ?"
        return [row[0] for row in self._do(statement, (LOW_PRIORITY,)).fetchall()]

    def waiting_ids(self, pool: int, limit: int) -> list[str]:
        return [row[0] for row in self._run("waiting_ids", (pool, limit)).fetchall()]

    def job(self, job: str) -> dict[str, Any] | None:
        return self._one("job", job)

    def told(self, job: str) -> dict[str, Any] | None:
        return self._one("told", job)

    def _one(self, query: str, job: str) -> dict[str, Any] | None:
        cursor = self._run(query, (job,))
        row = cursor.fetchone()
        return dict(zip((column[0] for column in cursor.description), row, strict=True)) if row else None

    def request_cancel(self, job: str, now_ms: int) -> None:
        self._run("request_cancel", (now_ms, job))

    def again(self, job: str) -> bool:
        return self._run("again", (job,)).rowcount == 1

    def outdated(self, now_ms: int, most: int) -> list[str]:
        return [row["id"] for row in self.read(self._sql["outdated"], (now_ms, _AWAITED_KEPT, most, _AWAITED_BYTES))]

    def forget(self, jobs: Sequence[str], now_ms: int) -> list[str]:
        self._run("old_events", (now_ms - _EVENTS_KEPT_MS,))
        names = (json.dumps(self._still_ended(jobs, now_ms)),)
        these = "IN (SELECT value FROM json_each(?))"
        named = [row[0] for row in self._do(f"SELECT DISTINCT id FROM blobs WHERE job {these}", names).fetchall()]
        for table, column in (
            ("jobs", "id"),
            ("attempts", "job"),
            ("events", "job"),
            ("log_spans", "job"),
            ("chunks", "job"),
            ("blobs", "job"),
            ("idempotency", "job"),
            ("webhooks", "job"),
        ):
            self._do(f"DELETE FROM {table} WHERE {column} {these}", names)
        return named

    def _still_ended(self, jobs: Sequence[str], at_ms: int) -> list[str]:
        """Without those that somebody had tried again since they were found, or of whose end somebody is to be told."""
        statement = """SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND state >= 4 AND ended_ms <= ?
                       AND NOT EXISTS (SELECT 1 FROM webhooks WHERE job = id AND due_ms IS NOT NULL)"""
        return [row[0] for row in self._do(statement, (json.dumps(list(jobs)), at_ms)).fetchall()]

    def drop_blobs(self, job: str, blobs: Sequence[str]) -> list[str]:
        statement = """DELETE FROM blobs WHERE job = ?1 AND id IN (SELECT value FROM json_each(?2))
                       AND EXISTS (SELECT 1 FROM jobs WHERE id = ?1 AND state = 4) RETURNING id"""
        return [row[0] for row in self._do(statement, (job, json.dumps(list(blobs)))).fetchall()]

    def unneeded(self, blobs: Sequence[str]) -> list[str]:
        statement = "SELECT id FROM blobs WHERE id IN (SELECT value FROM json_each(?))"
        rows = self._do(statement, (json.dumps(list(blobs)),)).fetchall()
        return sorted(set(blobs).difference(row[0] for row in rows))

    # ── reading, from another thread ──────────────────────────────────────────────────────────────

    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return self._reader.read(query, arguments) if self._reader is not None else []
