"""A project's source files, as far as a build reads them without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runpod_flash.client.imports import Wanted
from runpod_flash.client.requirements import is_of_others


@dataclass(frozen=True)
class Source:
    """One file. `tree` is None if it cannot be read; importing it says why."""

    path: str
    tree: ast.Module | None

    @property
    def has_remote(self) -> bool:
        """Whether something in it is decorated with `remote`."""
        return self.tree is not None and any(_is_remote(node) for node in ast.walk(self.tree))


def read(root: Path, path: str) -> Source:
    """Reads a file."""
    try:
        return Source(path, parse(root, path))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return Source(path, None)


def parse(root: Path, path: str) -> ast.Module:
    """The same; OSError, SyntaxError, ValueError or RecursionError if it cannot be read."""
    return ast.parse((root / path).read_bytes(), filename=str(root / path))


def module_name(path: str) -> str:
    """How the project itself imports a file; "" for one that it cannot."""
    parts = path.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else ""


def is_test(path: str) -> bool:
    """Whether pytest runs it, and nothing else does."""
    *folders, name = path.split("/")
    return "tests" in folders or name.startswith("test_") or name in {"conftest.py", "setup.py", "noxfile.py"}


def line_of(root: Path, path: str, name: str) -> str:
    """`file:line` where a module binds a name."""
    tree = read(root, path).tree
    for node in tree.body if tree else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            return f"{root / path}:{node.lineno}"
    return f"{root / path}:1"


def wanted(root: Path, files: Iterable[str]) -> Iterator[Wanted]:
    """What others have to have installed for the project's modules to be imported.

    Not what is imported inside of remote functions: that is for their own workers.
    """
    seen: set[str] = set()
    for path in files:
        if not path.endswith(".py") or is_test(path):
            continue
        tree = read(root, path).tree
        for module, line in _imports(tree) if tree else ():
            top = module.partition(".")[0]
            if top not in seen and is_of_others(top):
                seen.add(top)
                yield Wanted(module, str(root / path), line, optional=True)


def _imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module, child.lineno
        elif not _is_remote(child) and not _is_main(child):
            yield from _imports(child)


def _is_remote(node: ast.AST) -> bool:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    return any(_name(one.func if isinstance(one, ast.Call) else one) == "remote" for one in node.decorator_list)


def _is_main(node: ast.AST) -> bool:
    """`if __name__ == "__main__":`, which only runs where the file is the program."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
