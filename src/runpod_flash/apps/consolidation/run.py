"""`flash deps consolidate`, step by step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from runpod_flash import installation
from runpod_flash.apps.consolidation import conflicts, files
from runpod_flash.apps.consolidation.declared import Example, merge, read_examples, read_project, text_of
from runpod_flash.apps.consolidation.resolving import Resolver, failure, of_flash

_OLDEST_PYTHON: Final = "3.10"
PROJECT: Final = "pyproject.toml"
PINS: Final = "requirements.txt"
LOCK: Final = "uv.lock"


@dataclass(frozen=True)
class Consolidated:
    """What the examples of a gallery come to."""

    root: Path
    examples: int
    dependencies: tuple[str, ...]
    added: tuple[str, ...]
    """Dependencies that pyproject.toml did not have, in those words."""
    removed: tuple[str, ...]
    written: tuple[str, ...]
    """The files that have changed."""
    stale: tuple[str, ...]
    """What is not as the examples want it, in a sentence each; empty after a consolidation."""


def check(root: Path) -> Consolidated:
    """Whether the files of a gallery are as its examples want them. Asks nobody: it needs no network."""
    examples = read_examples(root)
    dependencies, before = _dependencies(root, examples), _before(root)
    stale = tuple(_stale(root, examples, dependencies, before))
    return Consolidated(root, len(examples), tuple(dependencies), *_changes(before, dependencies), (), stale)


def consolidate(root: Path, *, upgrade: bool = False) -> Consolidated:
    """Resolves what all examples need, and writes pyproject.toml, requirements.txt and uv.lock; or changes nothing.

    Versions of the last time are kept where they still fit, unless `upgrade`. DependencyError names the examples whose
    dependencies cannot be had together.
    """
    examples = read_examples(root)
    dependencies, before = _dependencies(root, examples), _before(root)
    resolver = Resolver(root, _oldest_python(root))
    compiled = _compile(root, examples, resolver, upgrade)
    written = _write(root, dependencies, compiled, resolver, upgrade)
    return Consolidated(root, len(examples), tuple(dependencies), *_changes(before, dependencies), written, ())


def _dependencies(root: Path, examples: Sequence[Example]) -> list[str]:
    """The list for pyproject.toml. Flash is in it where that file says from where it comes."""
    every = [text_of(one) for one in merge(one for example in examples for one in example.requirements)]
    file = root / PROJECT
    with_us = file.exists() and files.names_flash(read_project(file))
    return sorted([*every, installation.OURS]) if with_us else every


def _before(root: Path) -> list[str]:
    file = root / PROJECT
    return [*read_project(file).get("project", {}).get("dependencies", [])] if file.exists() else []


def _changes(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(one for one in after if one not in before), tuple(one for one in before if one not in after)


def _oldest_python(root: Path) -> str:
    declared = read_project(root / PROJECT).get("project", {}).get("requires-python", "") if _has(root) else ""
    lower = [one.version for one in SpecifierSet(declared) if one.operator in (">=", "==", "~=")]
    return max(lower, key=_version, default=_OLDEST_PYTHON).removesuffix(".*")


def _has(root: Path) -> bool:
    return (root / PROJECT).exists()


def _version(text: str) -> list[int]:
    return [int(part) for part in text.split(".") if part.isdigit()]


def _compile(root: Path, examples: Sequence[Example], resolver: Resolver, upgrade: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="flash-deps-") as folder:
        pins = Path(folder, PINS)
        if (root / PINS).exists():
            shutil.copyfile(root / PINS, pins)
        ran = resolver.compile([*of_flash(), *conflicts.texts(examples)], pins, upgrade=upgrade)
        if ran.no_solution:
            raise conflicts.explain(examples, resolver, ran)
        if ran.code:
            raise failure(ran)
        return pins.read_text(encoding="utf-8")


def _write(
    root: Path, dependencies: Sequence[str], compiled: str, resolver: Resolver, upgrade: bool
) -> tuple[str, ...]:
    """pyproject.toml first, since uv locks what stands there; if it cannot, the file is as it was."""
    file = root / PROJECT
    before = file.read_bytes() if file.exists() else None
    lock = _content(root / LOCK)
    written = [PROJECT] if files.replace(file, files.with_dependencies(files.project_text(file), dependencies)) else []
    ran = resolver.lock(upgrade=upgrade)
    if ran.code:
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
        raise failure(ran)
    written += [PINS] if files.replace(root / PINS, files.pins_text(compiled, dependencies)) else []
    written += [LOCK] if _content(root / LOCK) != lock else []
    return tuple(written)


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _stale(
    root: Path, examples: Sequence[Example], dependencies: Sequence[str], before: Sequence[str]
) -> Iterator[str]:
    added, removed = _changes(before, dependencies)
    if not _has(root):
        yield f"there is no {PROJECT}"
    yield from (f"{PROJECT} lacks {one}{_wanted_by(one, examples)}" for one in added)
    yield from (f"{PROJECT} has {one}, which no example asks for like this" for one in removed)
    yield from _stale_pins(root, dependencies)
    locked = files.locked(root)
    if locked is not None and sorted(locked) != sorted(map(files.bounds_of, dependencies)):
        yield f"{LOCK} was made from other dependencies"


def _stale_pins(root: Path, dependencies: Sequence[str]) -> Iterator[str]:
    if not (root / PINS).exists():
        yield f"there is no {PINS}"
        return
    text = (root / PINS).read_text(encoding="utf-8")
    if files.digest_in(text) != files.digest(dependencies):
        yield f"{PINS} was made from other dependencies"
    pins = files.pins_in(text)
    for one in map(Requirement, of_flash()):
        if not any(one.specifier.contains(_pinned(pin), prereleases=True) for pin in pins.get(one.name, ())):
            yield f"{PINS} has no version of {one.name} that Flash can use ({one})"


def _pinned(pin: Requirement) -> str:
    return next((one.version for one in pin.specifier if one.operator == "=="), "0")


def _wanted_by(dependency: str, examples: Sequence[Example]) -> str:
    name = Requirement(dependency).name
    names = [example.name for example in examples if name in {one.name for one in merge(example.requirements)}]
    return f" ({', '.join(names)})" if names else ""
