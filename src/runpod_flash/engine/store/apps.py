"""What the store knows of apps, their environments and releases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

Do = Callable[..., sqlite3.Cursor]


class Release(NamedTuple):
    """One release on record. `functions`: JSON, which rows are its functions, by endpoint."""

    app: str
    env: str
    n: int
    spec: str
    functions: str


class Apps:
    """Writes inside of the turn's transaction, as the rest of the store does."""

    def __init__(self, do: Do) -> None:
        """`do` runs a statement; it raises StoreError."""
        self._do = do

    def create_app(self, app: str, now_ms: int) -> bool:
        """Whether it is new."""
        return self._do("INSERT OR IGNORE INTO apps VALUES (?, ?)", (app, now_ms)).rowcount > 0

    def create_env(self, app: str, env: str, now_ms: int) -> bool:
        """Whether it is new; its app is made with it."""
        self.create_app(app, now_ms)
        return self._do("INSERT OR IGNORE INTO app_envs VALUES (?, ?, NULL, ?)", (app, env, now_ms)).rowcount > 0

    def has_app(self, app: str) -> bool:
        """Whether there is one of that name."""
        return self._do("SELECT 1 FROM apps WHERE name = ?", (app,)).fetchone() is not None

    def envs(self, app: str) -> dict[str, int | None]:
        """Its environments, with the number of the release that is called."""
        return dict(self._do("SELECT name, active FROM app_envs WHERE app = ? ORDER BY name", (app,)).fetchall())

    def drop_env(self, app: str, env: str) -> None:
        """With all its releases."""
        self._do("DELETE FROM releases WHERE app = ? AND env = ?", (app, env))
        self._do("DELETE FROM app_envs WHERE app = ? AND name = ?", (app, env))

    def drop_app(self, app: str) -> None:
        """One that has no environments."""
        self._do("DELETE FROM apps WHERE name = ?", (app,))

    def active(self) -> list[Release]:
        """The releases that are called."""
        rows = self._do(
            """SELECT r.app, r.env, r.n, r.spec, r.functions FROM releases r
               JOIN app_envs e ON e.app = r.app AND e.name = r.env AND e.active = r.n"""
        )
        return [Release(*row) for row in rows.fetchall()]

    def release(self, app: str, env: str, n: int) -> Release | None:
        """One that is kept."""
        statement = "SELECT app, env, n, spec, functions FROM releases WHERE app = ? AND env = ? AND n = ?"
        row = self._do(statement, (app, env, n)).fetchone()
        return Release(*row) if row else None

    def numbers(self, app: str, env: str) -> list[int]:
        """Of the releases that are kept, the newest first."""
        statement = "SELECT n FROM releases WHERE app = ? AND env = ? ORDER BY n DESC"
        return [row[0] for row in self._do(statement, (app, env)).fetchall()]

    def functions(self) -> list[str]:
        """Which functions the releases have that are kept."""
        return [row[0] for row in self._do("SELECT functions FROM releases").fetchall()]

    def save_release(self, release: Release, now_ms: int) -> None:
        """A new one, or one that is gone back to."""
        self._do(
            """INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?6, ?6)
               ON CONFLICT (app, env, n) DO UPDATE SET functions = ?5, activated_ms = ?6""",
            (*release, now_ms),
        )

    def activate(self, app: str, env: str, n: int | None) -> None:
        """From here on this one is called; None: none is."""
        self._do("UPDATE app_envs SET active = ? WHERE app = ? AND name = ?", (n, app, env))

    def prune(self, app: str, env: str, keep: int) -> None:
        """Forgets all but the newest so many, and the one that is called."""
        self._do(
            """DELETE FROM releases WHERE app = ?1 AND env = ?2 AND n NOT IN (
                   SELECT n FROM releases WHERE app = ?1 AND env = ?2 ORDER BY n DESC LIMIT ?3)
               AND n IS NOT (SELECT active FROM app_envs WHERE app = ?1 AND name = ?2)""",
            (app, env, keep),
        )


LISTED_APPS = """SELECT a.name AS app, a.created_ms AS created_at_ms, e.name AS env, e.active AS version
                 FROM apps a LEFT JOIN app_envs e ON e.app = a.name ORDER BY a.name, e.name"""
LISTED_RELEASES = """SELECT app, env, n AS version, created_ms AS created_at_ms, activated_ms AS activated_at_ms, spec
                     FROM releases ORDER BY app, env, n"""


def rows_of_apps(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an app, with its environments and what is deployed there."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        app = found.setdefault(row["app"], {"app": row["app"], "created_at_ms": row["created_at_ms"], "envs": []})
        if row["env"] is not None:
            app["envs"].append({"env": row["env"], "version": row["version"]})
    return list(found.values())
