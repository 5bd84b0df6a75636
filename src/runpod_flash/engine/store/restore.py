"""A store made again from a backup: put where the engine looks for it, with what was there before set aside.

What the backup says of hosts and workers is of the past, and they are ended in it. The next engine then finds jobs
whose worker is gone, which is the end of a crash: it counts a loss for each and runs it again, or fails it where
`max_retries=0` promised one start at most. An event of each such job says where it came from.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from runpod_flash.engine.store import backup, deployed, opening
from runpod_flash.engine.store.explain import explain
from runpod_flash.wire import blobs

_LIVE = "state IN (2, 3)"


def restore(source: Path, home: Path, store: Path, blob_folder: Path) -> dict[str, Any]:
    """Restores the backup; what it held, how many of its jobs ran, and where the old store is now ("" if none was).

    `secrets` are those that its apps had and that are not here: app, environment and names.

    The caller holds the engine's lock. StoreError if the backup is not sound; nothing is changed then.
    """
    with backup.staging(home) as folder:
        manifest = backup.unpack(source, folder)
        live = _bring_into_the_present(folder / backup.STORE, manifest["made_at_ms"])
        (folder / backup.BLOBS).mkdir(mode=0o700, exist_ok=True)
        deployed.put_archives(folder / backup.ARTIFACTS, home)
        replaced = _set_aside(home, store, blob_folder)
        # First the blobs: a store without them would be read by whoever starts an engine after a crash just here.
        (folder / backup.BLOBS).rename(blob_folder)
        (folder / backup.STORE).rename(store)
        blobs.sync_folder(home)
    return {
        **manifest,
        "secrets": deployed.missing(home, manifest.get("secrets", [])),
        "ran": live,
        "replaced": replaced,
    }


def _bring_into_the_present(store: Path, made_at_ms: int) -> int:
    """Rewrites what is true no longer; how many jobs were at workers."""
    now = time.time_ns() // 1_000_000
    data = json.dumps({"backup_at_ms": made_at_ms})
    try:
        with contextlib.closing(opening.connect(store)) as db:
            opening.prepare(db, store)
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE hosts SET ended_ms = ? WHERE ended_ms IS NULL", (now,))
            db.execute("UPDATE workers SET ended_ms = ?, end = 'restored' WHERE ended_ms IS NULL", (now,))
            # Another engine than the one that was backed up: programs must not take their files for its.
            db.execute("DELETE FROM meta WHERE key IN ('engine_id', 'secret')")
            # Results are kept for as long as they would have been; the time in between does not count.
            db.execute("UPDATE jobs SET keep_until_ms = keep_until_ms + ?", (max(0, now - made_at_ms),))
            add = f"INSERT INTO events (job, at_ms, kind, data) SELECT id, ?, 'restored', ? FROM jobs WHERE {_LIVE}"
            live = db.execute(add, (now, data)).rowcount
            db.execute("INSERT INTO events (at_ms, kind, data) VALUES (?, 'restored', ?)", (now, data))
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            db.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise explain(error, store) from None
    os.chmod(store, 0o600)
    return live


def _set_aside(home: Path, store: Path, blob_folder: Path) -> str:
    """Moves what is there into a folder of its own. Nothing is ever deleted."""
    there = [path for path in (store, Path(f"{store}-wal"), Path(f"{store}-shm"), blob_folder) if path.exists()]
    if not there:
        return ""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = home / f"replaced-{stamp}"
    number = 1
    while folder.exists():
        number += 1
        folder = home / f"replaced-{stamp}-{number}"
    folder.mkdir(mode=0o700)
    for path in there:
        path.rename(folder / path.name)
    return str(folder)
