"""What SQLite said, in words that name the file and the mend."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from runpod_flash.errors import StoreError


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The error of ours for one of SQLite's about the store at `path`."""
    text = str(error)
    if "disk is full" in text or "disk I/O" in text:
        return StoreError(
            f"the store {path} cannot be written: {text}",
            why=f"{_free(path)} are free there",
            fix="free some space; nothing acknowledged is lost, and calls go on by themselves",
        )
    if "readonly" in text or "unable to open" in text:
        return StoreError(
            f"the store {path} cannot be written: {text}",
            why="the file, its folder or its disk is read-only",
            fix=f"make {path.parent} writable, or set FLASH_HOME to another folder",
        )
    if "malformed" in text or "not a database" in text or "encrypted" in text:
        return corrupt(path, text)
    if "locked" in text:
        return StoreError(
            f"the store {path} is locked",
            why="another program has it open for writing",
            fix="close that program (fuser shows it)",
        )
    return StoreError(
        f"the store {path} failed",
        why=text,
        fix="calls go on by themselves once the store does; if it stays like this: flash engine restart",
    )


def corrupt(path: Path, why: str) -> StoreError:
    """The file is damaged; nothing is repaired behind the user's back."""
    return StoreError(
        f"the store {path} is damaged",
        why=why,
        fix=f"keep a copy and start afresh: mv {path} {path}.damaged && rm -f {path}-wal {path}-shm",
    )


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        stat = os.statvfs(path.parent)
        return f"{stat.f_bavail * stat.f_frsize // (1024 * 1024)} MiB"
    return "an unknown number of bytes"
