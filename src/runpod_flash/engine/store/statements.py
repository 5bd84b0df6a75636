"""What the parts of the store are made of: statements by name, and running them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
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


def load_queries() -> dict[str, str]:
    """The statements of queries.sql by name."""
    text = resources.files(__package__).joinpath("sql/queries.sql").read_text(encoding="utf-8")
    return dict(_named(text))


def _named(text: str) -> Iterator[tuple[str, str]]:
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        yield name.strip(), "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()
