"""What the parts of the store are made of: running statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runpod_flash.engine.store.explain import explain


class Statements:
    """Runs statements on the connection that writes."""

    path: Path
    _sql: Mapping[str, str]
    _execute: Callable[..., sqlite3.Cursor]

    def _run(self, name: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._do(self._sql[name], arguments)

    def _do(self, statement: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._execute(statement, arguments)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
