"""What a backup has of deployed apps beside their rows: the artifacts of their releases, and the names of secrets."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from runpod_flash.wire import artifacts
from runpod_flash.wire.secrets import Secrets


def archives(store: Path, home: Path) -> list[Path]:
    """Of all releases on record, also of those that can be gone back to: where they have to be."""
    with contextlib.closing(sqlite3.connect(store)) as db:
        rows = db.execute("SELECT DISTINCT json_extract(spec, '$.artifact') FROM releases").fetchall()
    return sorted(artifacts.archive_of(artifacts.folder_of(home, row[0])) for row in rows if row[0])


def put_archives(source: Path, home: Path) -> None:
    """Puts archives from a folder beside those of a data folder: one of the same name is the same."""
    target = home / artifacts.FOLDER
    target.mkdir(mode=0o700, exist_ok=True)
    for archive in source.glob("*"):
        archive.replace(target / archive.name)


def secrets(store: Path, home: Path) -> list[dict[str, Any]]:
    """The names of secrets by app and environment, of those that have any: {app, env, names}."""
    with contextlib.closing(sqlite3.connect(store)) as db:
        environments = db.execute("SELECT app, name FROM app_envs ORDER BY app, name").fetchall()
    found = [{"app": app, "env": env, "names": sorted(_names(home, app, env))} for app, env in environments]
    return [one for one in found if one["names"]]


def missing(home: Path, secrets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `secrets` that nobody has set here."""
    found = [{**one, "names": sorted({*one["names"]} - _names(home, one["app"], one["env"]))} for one in secrets]
    return [one for one in found if one["names"]]


def _names(home: Path, app: str, env: str) -> set[str]:
    try:
        return set(Secrets(home, app, env).facts())
    except ValueError:  # a file that holds none; whoever deploys is told
        return set()
