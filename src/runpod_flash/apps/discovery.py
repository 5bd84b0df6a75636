"""Which examples a folder has: found by the names of files alone, nothing is read or imported.

An example is a folder with a `main.py`, a `{worker_type}_worker.py` or a `workers/{worker_type}/__init__.py`. A
gallery is a folder of categories, folders whose names begin with a number, with examples in them; where no name begins
with one, every folder that has examples is a category. A folder that has examples itself is a gallery of that one
category.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runpod_flash.apps.naming import number_of, title

_WORKER: Final = re.compile(r"([A-Za-z]\w*)_worker\.py")
_NO_CATEGORIES: Final = frozenset({"build", "dist", "docs", "node_modules", "site-packages", "tests", "venv"})


@dataclass(frozen=True)
class Worker:
    """One worker type of an example: where its router is to be."""

    type: str
    file: Path
    module: str
    """As the example itself would import it."""

    @property
    def router(self) -> str:
        """The name that its router must have."""
        return f"{self.type}_router"


@dataclass(frozen=True)
class Example:
    """A folder with routes of its own."""

    category: str
    name: str
    folder: Path
    main: Path | None
    workers: tuple[Worker, ...]

    @property
    def title(self) -> str:
        """For people: "01 Hello World"."""
        return title(self.name)

    @property
    def tag(self) -> str:
        """What its routes are listed under: "01 Getting Started > 01 Hello World"."""
        return f"{title(self.category)} > {self.title}"

    @property
    def path(self) -> str:
        """Where it is served whatever else there is: `/{category}/{example}`."""
        return f"/{self.category}/{self.name}"


def find_examples(root: Path) -> list[Example]:
    """The examples of a gallery, in the order of categories and names; nothing if it has none."""
    folders = [one for one in _folders(root) if one.name not in _NO_CATEGORIES]
    numbered = [one for one in folders if number_of(one.name)]
    for candidates in (numbered, folders):
        found = [example for category in candidates for example in _examples_in(category)]
        if found:
            return found
    return [one for one in _examples_in(root) if one.name not in _NO_CATEGORIES]


def read_example(folder: Path, category: str) -> Example | None:
    """The example in a folder; None if there is none."""
    main = folder / "main.py"
    workers = tuple(_workers(folder))
    if not workers and not main.is_file():
        return None
    return Example(category, folder.name, folder, main if main.is_file() else None, workers)


def _examples_in(category: Path) -> Iterator[Example]:
    for folder in _folders(category):
        if (example := read_example(folder, category.name)) is not None:
            yield example


def _workers(folder: Path) -> Iterator[Worker]:
    for entry in _sorted(folder):
        if (named := _WORKER.fullmatch(entry.name)) and entry.is_file():
            yield Worker(named[1], Path(entry.path), entry.name.removesuffix(".py"))
    for entry in _sorted(folder / "workers"):
        file = Path(entry.path, "__init__.py")
        if entry.name.isidentifier() and file.is_file():
            yield Worker(entry.name, file, f"workers.{entry.name}")


def _folders(root: Path) -> Iterator[Path]:
    for entry in _sorted(root):
        if entry.is_dir() and not entry.name.startswith((".", "_")):
            yield Path(entry.path)


def _sorted(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # not there, no folder, or not ours to read
        return []
