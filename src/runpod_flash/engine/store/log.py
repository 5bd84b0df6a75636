"""The write-ahead log beside the store: synced where a promise asks for it, and moved into the file before it grows."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from runpod_flash.engine.store.reader import Reader

_CHANGES_MOVED: Final = 2000
"""Changes of rows after which the log is moved into the file: it stays at some megabytes."""


class WriteAheadLog:
    """See `base.Log`, whose words these are."""

    def __init__(self, path: Path, writer: sqlite3.Connection, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._file: int | None = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._moved = 0  # changes of rows when a checkpoint was last due

    def sync(self) -> None:
        if self._file is not None:
            getattr(os, "fdatasync", os.fsync)(self._file)

    def checkpoint(self) -> None:
        self._reader.checkpoint()

    def wants_checkpoint(self) -> bool:
        changes = self._writer.total_changes
        if changes - self._moved < _CHANGES_MOVED:
            return False
        self._moved = changes
        return True

    def end_checkpoint(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # as for a checkpoint: the next commit tells
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def size(self) -> int:
        return os.fstat(self._file).st_size if self._file is not None else 0

    def shrink(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("PRAGMA busy_timeout=0")  # a reader in its midst is no reason to stand still
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._writer.execute("PRAGMA busy_timeout=5000")

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
