"""What there is to serve in a folder: an app, a gallery of examples, or one example without an app of its own."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from runpod_flash.apps.discovery import find_examples, read_example
from runpod_flash.errors import UsageError, did_you_mean

FILES: Final = ("main.py", "app.py", "server.py")
NAME: Final = "app"


class Kind(Enum):
    """How a project is served."""

    APP = "app"  # the object of that name in that file
    EXAMPLE = "example"  # the routers of its workers
    GALLERY = "gallery"


@dataclass(frozen=True)
class Target:
    """What `flash run` serves."""

    folder: Path
    kind: Kind
    file: str = ""
    name: str = ""

    def words(self) -> list[str]:
        """For the command line of the process that serves it."""
        return [str(self.folder), self.kind.value, self.file, self.name]


def find_target(target: str) -> Target:
    """What is meant by a folder, a `file.py`, or `file.py:name`; UsageError says what was looked for."""
    path, _, name = target.partition(":")
    place = Path(os.path.abspath(path or "."))
    if place.is_file():
        return Target(place.parent, Kind.APP, place.name, name or NAME)
    if not place.is_dir() or name:
        there = [one.name for one in place.parent.glob("*")] if place.parent.is_dir() else []
        kind = "file" if name or path.endswith(".py") else "folder"
        raise UsageError(
            f"there is no {kind} {path}.{did_you_mean(place.name, there)}",
            fix="name a folder, a file, or a file and the app in it: flash run main.py:app",
        )
    for file in FILES:
        if (place / file).is_file() and NAME in _names(place / file):
            return Target(place, Kind.APP, file, NAME)
    if find_examples(place):
        return Target(place, Kind.GALLERY)
    example = read_example(place, "")
    if example is not None and example.workers:
        return Target(place, Kind.EXAMPLE)
    raise _nothing(place)


def _names(file: Path) -> set[str]:
    """The names that a file binds at its top level. What cannot be read is taken as it is: importing it says why."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {NAME}
    return set(_bound(tree))


def _bound(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        else:
            yield from (
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )


def _nothing(folder: Path) -> UsageError:
    why = f"none of {', '.join(FILES)} in it defines `{NAME}`, and it has no workers and no categories of examples"
    for file in FILES:
        made = _apps_in(folder / file)
        if made:
            return UsageError(
                f"{folder / file} has no `{NAME}`",
                where=f"{folder / file}:{made[0][1]}",
                why=f"the app in it is called {made[0][0]}",
                fix=f"flash run {file}:{made[0][0]}, or call it {NAME}",
            )
    return UsageError(f"there is nothing to serve in {folder}", why=why, fix="make an app: flash init my_app")


def _apps_in(file: Path) -> list[tuple[str, int]]:
    """Names that are bound to a new FastAPI or Starlette app, and their lines."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        (target.id, one.lineno)
        for one in body
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)
        for target in one.targets
        if isinstance(target, ast.Name) and ast.unparse(one.value.func).rpartition(".")[2] in {"FastAPI", "Starlette"}
    ]
