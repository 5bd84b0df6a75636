"""The files of a gallery that are written from its examples: pyproject.toml, comments kept, and requirements.txt."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tomlkit
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from tomlkit.items import Array, Table

from runpod_flash import installation
from runpod_flash.apps.consolidation.declared import read_project

_PIECE: Final = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|#[^\n]*|\n')
_NEW: Final = """\
[project]
name = "{name}"
version = "0"
requires-python = ">=3.10"
# Written by `flash deps consolidate` from the examples: change theirs.
dependencies = []

[tool.uv]
package = false
"""
_HEAD: Final = """\
# Written by `flash deps consolidate` from what the examples declare: change that, and run it again.
# examples: {digest}
"""
_DIGEST: Final = re.compile(r"^# examples: (\S+)$", re.MULTILINE)
_PIN: Final = re.compile(r"^[A-Za-z0-9][^\n\\#]*", re.MULTILINE)


def project_text(file: Path) -> str:
    """A gallery's pyproject.toml as it is, or as it begins."""
    if file.exists():
        return file.read_text(encoding="utf-8")
    name = re.sub(r"[^a-z0-9]+", "-", file.resolve().parent.name.lower()).strip("-")
    return _NEW.format(name=name or "gallery")


def with_dependencies(text: str, dependencies: Sequence[str]) -> str:
    """That pyproject.toml with these dependencies. Comments beside and above one that stays, stay with it."""
    document = tomlkit.parse(text)
    if "project" not in document:
        document["project"] = tomlkit.table()
    project = document["project"]
    assert isinstance(project, Table)
    written = project.get("dependencies")
    comments = _comments(written) if isinstance(written, Array) else {}
    lines: list[str] = []
    for one in dependencies:
        above, beside = comments.get(_name(one), ([], ""))
        lines += [f"    {comment}" for comment in above]
        lines.append(f"    {tomlkit.string(one).as_string()}," + (f"  {beside}" if beside else ""))
    lines += [f"    {comment}" for comment in comments.get("", ([], ""))[0]]
    array = "[\n" + "\n".join(lines) + "\n]" if lines else "[]"
    project["dependencies"] = tomlkit.parse(f"it = {array}\n")["it"]
    return tomlkit.dumps(document)


def pins_text(compiled: str, dependencies: Sequence[str]) -> str:
    """What uv has compiled, with a head that says from what."""
    return _HEAD.format(digest=digest(dependencies)) + compiled


def digest(dependencies: Sequence[str]) -> str:
    """A name for these dependencies; that of another machine or day is the same."""
    return hashlib.sha256("\n".join(dependencies).encode()).hexdigest()[:16]


def digest_in(text: str) -> str:
    """The one that a requirements file was written from; "" if it does not say."""
    found = _DIGEST.search(text)
    return found[1] if found else ""


def pins_in(text: str) -> dict[str, list[Requirement]]:
    """What a requirements file pins, by name; several for one name where platforms or versions of Python differ."""
    found: dict[str, list[Requirement]] = {}
    for line in _PIN.findall(text):
        try:
            one = Requirement(line.strip())
        except InvalidRequirement:
            continue
        found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def names_flash(project: Mapping[str, Any]) -> bool:
    """Whether a pyproject.toml says where Flash itself is to be had: only then can it be a dependency there."""
    return installation.OURS in project.get("tool", {}).get("uv", {}).get("sources", {})


def locked(root: Path) -> list[str] | None:
    """The dependencies that uv.lock was made from, as `name bounds`; None if there is no lock."""
    if not (root / "uv.lock").is_file():
        return None
    for package in read_project(root / "uv.lock").get("package", []):
        if package.get("source", {}) in ({"virtual": "."}, {"editable": "."}):
            return [_bounds(one) for one in package.get("metadata", {}).get("requires-dist", [])]
    return []


def bounds_of(dependency: str) -> str:
    """The same of a dependency of pyproject.toml."""
    one = Requirement(dependency)
    return f"{canonicalize_name(one.name)} {','.join(sorted(map(str, one.specifier)))}".rstrip()


def replace(file: Path, text: str) -> bool:
    """Writes a file whole or not at all; False if it is the same already."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def _bounds(locked: Mapping[str, Any]) -> str:
    bounds = sorted(part for part in str(locked.get("specifier", "")).split(",") if part)
    return f"{canonicalize_name(locked['name'])} {','.join(bounds)}".rstrip()


def _comments(array: Array) -> dict[str, tuple[list[str], str]]:
    """For each dependency the comments above it and the one beside it; under "" those after the last."""
    found: dict[str, tuple[list[str], str]] = {}
    above: list[str] = []
    name = ""
    for piece in _PIECE.findall(array.as_string()):
        if piece == "\n":
            name = ""
        elif piece.startswith("#"):
            if name:
                found[name] = (found[name][0], piece)
            else:
                above.append(piece)
        else:
            name = _name(str(tomlkit.parse(f"it = {piece}").unwrap()["it"]))
            found[name] = (above, "")
            above = []
    return {**found, "": (above, "")} if above else found


def _name(dependency: str) -> str:
    try:
        return canonicalize_name(Requirement(dependency).name)
    except InvalidRequirement:
        return dependency
