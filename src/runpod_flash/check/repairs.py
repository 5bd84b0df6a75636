"""What `--fix` may do about a finding. The nodes are of the tree that was checked, and say where the text is."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from runpod_flash.check.module import Function, Module

PlainImport: TypeAlias = ast.Import | ast.ImportFrom


@dataclass(frozen=True, slots=True, eq=False)
class MoveImport:
    """Bind a name inside functions, as the module's imports do; drop those if nothing else needs them."""

    module: Module
    name: str
    statements: tuple[PlainImport, ...]
    into: tuple[Function, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AddDependency:
    """Write a requirement into a call of `remote`."""

    module: Module
    call: ast.Call
    requirement: str


Repair: TypeAlias = MoveImport | AddDependency


def bound_by(alias: ast.alias, statement: PlainImport) -> str:
    """The name that one part of an import statement binds."""
    return alias.asname or (alias.name if isinstance(statement, ast.ImportFrom) else alias.name.partition(".")[0])


def import_line(alias: ast.alias, statement: PlainImport) -> str:
    """That part as a statement of its own."""
    text = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
    return f"from {statement.module} {text}" if isinstance(statement, ast.ImportFrom) else text
