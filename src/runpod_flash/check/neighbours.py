"""The files that a file imports from: the remote functions that they define, and what they import themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from runpod_flash.analysis.facts import Import
from runpod_flash.analysis.reading import imports_of
from runpod_flash.check.module import OURS, Module
from runpod_flash.check.project import up_to_root
from runpod_flash.check.source import Source, Unreadable, read


class Neighbours:
    """Reads each file that others import from once, and only if that is needed."""

    def __init__(self) -> None:
        self._files: dict[tuple[Path, str], Path | None] = {}
        self._texts: dict[Path, str] = {}
        self._remotes: dict[tuple[Path, str], bool] = {}
        self._imports: dict[Path, list[Import]] = {}

    def imported(self, source: Source) -> frozenset[str]:
        """The names in a file that stand for remote functions of other files."""
        folder = Path(source.path).absolute().parent
        return frozenset(
            alias.asname or alias.name
            for node in _imports_from(source.tree)
            for alias in node.names
            if self._is_remote(self._file(folder, node.level, node.module or ""), alias.name)
        )

    def imports_behind(self, folder: Path, imported: Import) -> Iterator[tuple[Path, Import]]:
        """What the user's own modules behind an import import when they are run, each with the file that says so."""
        waiting = [(folder, imported)]
        seen: set[Path] = set()
        while waiting:
            for file in self._modules(*waiting.pop()):
                if file not in seen:
                    seen.add(file)
                    found = self._run_imports(file)
                    waiting += [(file.parent, one) for one in found]
                    yield from ((file, one) for one in found)

    def _modules(self, folder: Path, imported: Import) -> Iterator[Path]:
        """The files that one import runs: of the module, the packages around it, and what is taken out of it."""
        parts = imported.module.split(".")
        around = [".".join(parts[: count + 1]) for count in range(len(parts))]
        taken = [f"{imported.module}.{name}".lstrip(".") for name in imported.names]
        for module in (*around, *taken):
            if file := self._file(folder, imported.level, module):
                yield file

    def _run_imports(self, file: Path) -> list[Import]:
        """The imports of a file that run with it, and must not fail."""
        if file not in self._imports:
            try:
                every = imports_of(read(file, str(file)).tree)
            except (Unreadable, RecursionError):
                every = ()
            self._imports[file] = [one for one in every if not one.guarded and not one.deferred]
        return self._imports[file]

    def _is_remote(self, file: Path | None, name: str) -> bool:
        """Whether a name of a file is a remote function: of its own, or one that it imports itself."""
        if file is None:
            return False
        if (file, name) not in self._remotes:
            self._remotes[file, name] = False  # files may import each other in a circle
            self._remotes[file, name] = self._find_remote(file, name)
        return self._remotes[file, name]

    def _find_remote(self, file: Path, name: str) -> bool:
        text = self._text(file)
        if not re.search(rf"\b{re.escape(name)}\b", text):
            return False
        if not mentions_flash(text) and re.search(
            rf"^(?:(?:async )?def|class) {re.escape(name)}\b", text, re.MULTILINE
        ):
            return False  # it is defined here, so there is nothing to read
        try:
            source = read(file, str(file))
        except Unreadable:
            return False
        if mentions_flash(text) and name in Module(source).remote_names:
            return True
        return any(
            self._is_remote(self._file(file.parent, node.level, node.module or ""), alias.name)
            for node in _imports_from(source.tree)
            for alias in node.names
            if (alias.asname or alias.name) == name
        )

    def _text(self, file: Path) -> str:
        if file not in self._texts:
            try:
                self._texts[file] = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                self._texts[file] = ""
        return self._texts[file]

    def _file(self, folder: Path, level: int, module: str) -> Path | None:
        place = folder.parents[level - 2] if 2 <= level <= len(folder.parents) + 1 else folder
        asked = (place if level else folder, f"{'.' * bool(level)}{module}")
        if asked not in self._files:
            bases = [place] if level else [one for base in up_to_root(folder) for one in (base, base / "src")]
            self._files[asked] = next(filter(None, (_module_file(base, module) for base in bases)), None)
        return self._files[asked]


def mentions_flash(text: str) -> bool:
    """Whether a text could import us; most files do not, and need no closer look."""
    return any(name in text for name in OURS)


def _imports_from(tree: ast.AST) -> Iterator[ast.ImportFrom]:
    """Every `from … import` of a file. Only statements are gone through: expressions are most of a tree."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.ImportFrom):
            yield node
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            inside = getattr(node, field, None)
            if isinstance(inside, list):
                stack += inside


def _module_file(base: Path, module: str) -> Path | None:
    path = base.joinpath(*module.split(".")) if module else base
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None
