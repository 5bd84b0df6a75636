"""The files that a file imports from: the remote functions that they define, and what they import themselves."""

from __future__ import annotations

import ast
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
        self._known: dict[Path, frozenset[str]] = {}
        self._files: dict[tuple[Path, str], Path | None] = {}
        self._imports: dict[Path, list[Import]] = {}

    def imported(self, source: Source) -> frozenset[str]:
        """The names in a file that stand for remote functions of other files."""
        folder = Path(source.path).absolute().parent
        return frozenset(self._bound(folder, source.tree))

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

    def _bound(self, folder: Path, tree: ast.AST) -> Iterator[str]:
        for node in _statements(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            file = self._file(folder, node.level, node.module or "")
            remotes = self._remotes(file) if file else ()
            yield from (alias.asname or alias.name for alias in node.names if alias.name in remotes)

    def _remotes(self, file: Path) -> frozenset[str]:
        """The remote functions that can be imported from a file: its own, and those that it imports itself."""
        if file not in self._known:
            self._known[file] = frozenset()  # files may import each other in a circle
            try:
                source = read(file, str(file))
            except Unreadable:
                return frozenset()
            own = Module(source).remote_names if mentions_flash(source.text) else frozenset()
            self._known[file] = own | self.imported(source)
        return self._known[file]

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


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement of a file. Expressions, most of a tree, have none in them."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
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
