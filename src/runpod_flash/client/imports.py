"""What a function imports when it runs, sorted by who has it: the user's own modules travel, others are required.

Own modules go as source, with all that they import of the user's. They are read here, not imported: that may be what
the function is written to avoid.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from runpod_flash.analysis.facts import Import
from runpod_flash.analysis.modules import Found, find
from runpod_flash.analysis.reading import imports_of
from runpod_flash.client.scope import Scope
from runpod_flash.client.source import source_of
from runpod_flash.payload.modules import ModuleSource


@dataclass(frozen=True, slots=True)
class Wanted:
    """A module that is asked for by its absolute name, and where."""

    module: str
    file: str
    line: int
    optional: bool = False
    """Whether the program goes on without it, as far as can be seen."""


@dataclass(slots=True)
class Imports:
    """What a function and all that travels with it import."""

    sources: dict[str, ModuleSource] = field(default_factory=dict)
    """The user's own modules, by name, each with the packages that it is in."""
    others: list[Wanted] = field(default_factory=list)
    """What is neither the user's own, nor ours, nor of the standard library; also what is nowhere."""
    compiled: list[Wanted] = field(default_factory=list)
    """Modules of the user's own that have no source."""


def imports_of_scope(scope: Scope) -> Imports:
    """Reads the imports of a function, of what it reaches, and of the modules that go along."""
    found = Imports()
    waiting = deque(_of_functions(scope))
    for module in scope.modules:
        if file := getattr(module, "__file__", None):
            waiting.extend(_of_file(file, module.__name__, hasattr(module, "__path__")))
    seen: set[tuple[str, bool]] = set()
    while waiting:
        wanted = waiting.popleft()
        if (wanted.module, wanted.optional) in seen:
            continue
        seen.add((wanted.module, wanted.optional))
        place = find(wanted.module)
        if place is None or place.owner == "installed":
            found.others.append(wanted)
        elif place.owner == "own":
            waiting.extend(_take(place, wanted, found))
    return found


def _take(place: Found, wanted: Wanted, found: Imports) -> Iterator[Wanted]:
    """Takes an own module along, and the packages around it; what these import comes next."""
    parts = place.name.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        one = place if count == len(parts) else find(name)
        if one is None or name in found.sources or not (one.file or one.folders):
            continue
        if one.file and not one.file.endswith(".py"):
            found.compiled.append(wanted)
            continue
        text = _text(one.file) if one.file else ""
        found.sources[name] = ModuleSource(name, one.file, one.is_package, text)
        if one.file:
            yield from _of_file(one.file, name, one.is_package)


def in_body(function: FunctionType) -> Iterator[Wanted]:
    """What a function itself asks for."""
    for one in source_of(function.__code__).facts.imports:
        yield from _wanted(one, _package_of(function), function.__code__.co_filename, optional=one.guarded)


def _of_functions(scope: Scope) -> Iterator[Wanted]:
    for function, way in scope.functions:
        if way != "elsewhere":
            yield from in_body(function)


def _of_file(file: str, name: str, is_package: bool) -> list[Wanted]:
    package = name if is_package else name.rpartition(".")[0]
    found: list[Wanted] = []
    for one in _imports_in(file, *_stamp(file)):
        # What a module's functions import may never be asked for, whereas the module itself is run.
        found.extend(_wanted(one, package, file, optional=one.guarded or one.deferred))
    return found


def _wanted(one: Import, package: str, file: str, *, optional: bool) -> Iterator[Wanted]:
    module = one.module
    if one.level:
        try:
            module = importlib.util.resolve_name("." * one.level + one.module, package)
        except ImportError:
            return  # fails here as well as there
    place = find(module)
    inside = [name for name in one.names if place is not None and place.is_package and find(f"{module}.{name}")]
    # A folder without code of its own comes from nobody; what is taken out of it does.
    if place is None or place.file or not inside or place.owner == "own":
        yield Wanted(module, file, one.line, optional)
    for name in inside if place is not None and (place.owner == "own" or not place.file) else ():
        yield Wanted(f"{module}.{name}", file, one.line, optional)


def _package_of(function: FunctionType) -> str:
    package: Any = function.__globals__.get("__package__")
    return package if isinstance(package, str) else (function.__module__ or "").rpartition(".")[0]


# ── files, read once while they stay the same ─────────────────────────────────────────────────────


def _stamp(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _text(file: str) -> str:
    return _read(file, *_stamp(file))


@functools.lru_cache(maxsize=1024)
def _read(file: str, _mtime: int, _size: int) -> str:
    try:
        return importlib.util.decode_source(Path(file).read_bytes())
    except (OSError, SyntaxError, UnicodeError):
        return ""


@functools.lru_cache(maxsize=1024)
def _imports_in(file: str, mtime: int, size: int) -> tuple[Import, ...]:
    try:
        return imports_of(ast.parse(_read(file, mtime, size)))
    except (SyntaxError, ValueError):
        return ()  # importing it will say so


def total_size(sources: Iterable[ModuleSource]) -> int:
    """Bytes of source, roughly."""
    return sum(len(source.text) for source in sources)
