"""Opening a store: is it sound, is it ours to read, and the steps that bring an older one up to date."""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path
from typing import Final

from runpod_flash.engine.store.explain import corrupt
from runpod_flash.errors import StoreError

VERSION: Final = 7
"""Number of the newest migration; `PRAGMA user_version` of a store that has it."""
_CHECKED_UP_TO: Final = 64 * 1024 * 1024
"""Bytes of a store that is looked through at every start; a larger one would take seconds, and tells by itself."""
_LOG_KEPT: Final = 16 * 1024 * 1024


def connect(path: Path, *, threads: bool = False) -> sqlite3.Connection:
    """One connection without transactions of its own making; with `threads` for use in any thread."""
    return sqlite3.connect(path, isolation_level=None, timeout=5, cached_statements=256, check_same_thread=not threads)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """One that cannot write, for other processes than the engine's: closing it moves no log either."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5)


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Checks the store, sets how it is written, and makes or migrates its tables."""
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise StoreError(
            f"the store {path} is of version {found}; this program knows up to {VERSION}",
            why="a newer Flash has used it",
            fix="upgrade this one (pip install -U flash-anywhere), or use another FLASH_HOME",
        )
    small = path.stat().st_size <= _CHECKED_UP_TO
    if found and small and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise corrupt(path, "quick_check found damage")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("PRAGMA wal_autocheckpoint=0")
    # Writing over a log costs less than half of making it longer; this much of it stays to be written over.
    db.execute(f"PRAGMA journal_size_limit={_LOG_KEPT}")
    _migrate(db, path, found)


def _migrate(db: sqlite3.Connection, path: Path, found: int) -> None:
    if 0 < found < VERSION:
        copy = Path(f"{path}.before-{VERSION}")
        copy.unlink(missing_ok=True)  # of a migration that was cut short
        db.execute("VACUUM INTO ?", (str(copy),))
    for number in range(found + 1, VERSION + 1):
        script = resources.files(__package__).joinpath(f"sql/{number:04}.sql").read_text(encoding="utf-8")
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number};\nCOMMIT;")
