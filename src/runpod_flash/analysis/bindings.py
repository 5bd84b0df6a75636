"""What a module, or any body, binds, and where. Blocks (`if`, `try`, `with`, loops) are looked into."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["import", "function", "class", "value", "parameter"]


@dataclass(frozen=True, slots=True)
class Binding:
    """The first place where a name is bound."""

    name: str
    kind: Kind
    line: int
    node: ast.AST
    """The statement that binds it."""
    value: ast.expr | None = None
    """What is assigned, where that is one expression."""
    module: str = ""
    """Of an import: the module asked for, with leading dots."""


def bindings_of(body: Iterable[ast.AST], shift: int = 0) -> dict[str, Binding]:
    """The names that statements bind, in order; of a name that is bound twice, the first."""
    found: dict[str, Binding] = {}
    for binding in _bindings(body, shift):
        found.setdefault(binding.name, binding)
    return found


def _bindings(nodes: Iterable[ast.AST], shift: int) -> Iterator[Binding]:
    for node in nodes:
        line = getattr(node, "lineno", 0) + shift
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield Binding(node.name, "function", line, node)
        elif isinstance(node, ast.ClassDef):
            yield Binding(node.name, "class", line, node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                yield Binding(name, "import", line, node, module=alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Binding(alias.asname or alias.name, "import", line, node, module=module)
        else:
            yield from _values(node, shift)
            yield from _bindings(_blocks(node), shift)


def _values(node: ast.AST, shift: int) -> Iterator[Binding]:
    value = getattr(node, "value", None) if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) else None
    if isinstance(node, ast.AnnAssign) and value is None:
        return  # `x: int` alone binds nothing
    for target in _targets(node):
        for one in ast.walk(target):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                single = value if one is target else None
                yield Binding(one.id, "value", one.lineno + shift, node, single)


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign):
        yield from node.targets
    elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.AsyncFor)):
        yield node.target
    elif isinstance(node, (ast.With, ast.AsyncWith)):
        yield from (item.optional_vars for item in node.items if item.optional_vars is not None)


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        block = getattr(node, name, ())
        if isinstance(block, list):
            yield from block
