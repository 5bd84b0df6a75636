"""What the examples of a gallery declare, and what that comes to when it is put together."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from runpod_flash import installation
from runpod_flash.apps.discovery import find_examples
from runpod_flash.apps.naming import number_of
from runpod_flash.errors import ConfigError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OURS: Final = frozenset({installation.OURS, *installation.FOREIGN})
"""Names that mean this package, whoever else has something of that name on an index: never to be installed by name."""
_ORDER: Final = ("===", "==", "~=", ">=", ">", "!=", "<=", "<")


@dataclass(frozen=True)
class Example:
    """One folder of a category, with what its pyproject.toml asks for."""

    name: str
    """Category and folder, such as `01_getting_started/01_hello_world`."""
    requirements: tuple[Requirement, ...]


def find_root(start: Path) -> Path:
    """The gallery that a folder is or lies in: the nearest one upwards that has categories with examples in them."""
    here = start.resolve()
    for folder in (here, *here.parents):
        if folder.is_dir() and any(_projects(folder)):
            return folder
    raise UsageError(
        f"there is no gallery at {start}",
        why="neither it nor a folder above it has categories (01_getting_started, …) of examples with a pyproject.toml",
        fix="cd into the gallery, or name it: flash deps consolidate PATH",
    )


def read_examples(root: Path) -> list[Example]:
    """All examples of a gallery, in the order of their names. ConfigError names the file that cannot be read."""
    return [_read(root, file) for file in _projects(root)]


def merge(requirements: Iterable[Requirement]) -> list[Requirement]:
    """One requirement for each package and marker, with the extras and bounds of all; without those that mean us."""
    found: dict[tuple[str, str, str], Requirement] = {}
    for one in requirements:
        name = canonicalize_name(one.name)
        if name in OURS:
            continue
        merged = found.setdefault((name, one.url or "", str(one.marker or "")), Requirement(str(one)))
        merged.name = name
        merged.extras |= one.extras
        merged.specifier &= one.specifier
    return [found[key] for key in sorted(found)]


def text_of(one: Requirement) -> str:
    """A requirement as people write it: lower bounds first, and each bound once."""
    extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
    bounds = f" @ {one.url}" if one.url else ",".join(map(str, _tightest(one.specifier)))
    return f"{one.name}{extras}{bounds}" + (f"; {one.marker}" if one.marker else "")


def _tightest(bounds: SpecifierSet) -> list[Specifier]:
    """The bounds without those that another one implies: of `>=1,>=2` only the latter."""
    lower = [one for one in bounds if one.operator == ">="]
    upper = [one for one in bounds if one.operator == "<"]
    others = [one for one in bounds if one.operator not in (">=", "<")]
    kept = [*others, *sorted(lower, key=_version)[-1:], *sorted(upper, key=_version)[:1]]
    return sorted(kept, key=lambda one: (_ORDER.index(one.operator), one.version))


def _version(bound: Specifier) -> Version:
    return Version(bound.version)


def _projects(root: Path) -> Iterator[Path]:
    """Of the examples in numbered categories below a folder, those that say what they need.

    Without a number any folder with projects two levels below it would do, and be written to.
    """
    for example in find_examples(root):
        file = example.folder / "pyproject.toml"
        if example.folder.parent.parent == root and number_of(example.category) and file.is_file():
            yield file


def _read(root: Path, file: Path) -> Example:
    declared = read_project(file).get("project", {}).get("dependencies", [])
    if not isinstance(declared, list):
        raise ConfigError("project.dependencies is no list", where=str(file), fix='write dependencies = ["…"]')
    requirements = tuple(_requirement(text, file) for text in declared)
    return Example(file.parent.relative_to(root).as_posix(), requirements)


def read_project(file: Path) -> dict[str, Any]:
    """A pyproject.toml as plain values. ConfigError says where it is no TOML."""
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigError(f"{file.name} is no TOML", where=f"{file}:{line[1] if line else 1}", why=str(error)) from None
    return found


def _requirement(text: object, file: Path) -> Requirement:
    try:
        return Requirement(str(text))
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{text!r} is no requirement", where=f"{file}:{_line(str(text), file)}", why=reason) from None


def _line(text: str, file: Path) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if text in line), 1)
