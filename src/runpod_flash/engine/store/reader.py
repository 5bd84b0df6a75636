"""The connection that reads, in another thread, while the engine goes on writing."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runpod_flash.engine.store import opening
from runpod_flash.engine.store.explain import explain


class Reader:
    """One connection and a lock; whoever closes it waits for what is being read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = opening.connect(path, threads=True)
        self._db.execute("PRAGMA query_only=ON")

    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows by column; none once it is closed. StoreError if they cannot be read."""
        with self._lock:
            if self._db is None:
                return []
            try:
                cursor = self._db.execute(query, arguments)
                names = [column[0] for column in cursor.description]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except sqlite3.Error as error:
                raise explain(error, self._path) from error

    def checkpoint(self) -> None:
        """Moves the log into the file, as far as no other reader needs it."""
        with self._lock:
            if self._db is None:
                return
            with contextlib.suppress(sqlite3.Error):  # a full disk shows at the next commit, with a reply
                self._db.execute("PRAGMA query_only=OFF")
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._db.execute("PRAGMA query_only=ON")

    def close(self) -> None:
        """Nothing is read any more."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None
