"""What scopes a function consists of, and the names that each of them binds.

A name is looked up from the innermost scope outwards; a class's names are seen in its own body only, a comprehension
is a scope whose first iterable belongs to the scope around it, and `:=` inside it binds outside it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LEAVES: Final = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop, ast.Constant)


@dataclass(slots=True, eq=False)
class Scope:
    """What one function, class or comprehension binds."""

    parent: Scope | None
    is_class: bool = False
    bound: set[str] = field(default_factory=set)
    global_: set[str] = field(default_factory=set)
    nonlocal_: set[str] = field(default_factory=set)

    def outside(self, name: str) -> bool:
        """Whether `name`, used here, comes from outside the outermost scope."""
        if name in self.global_:
            return True
        if name in self.bound:
            return False
        scope = self.parent
        while scope is not None:
            if name in scope.global_:
                return True
            if name in scope.bound and not scope.is_class:
                return False
            scope = scope.parent
        return True


def scope_of(node: ast.AST, parent: Scope | None) -> Scope:
    """The scope that a function, class, comprehension or module makes."""
    scope = Scope(parent, isinstance(node, ast.ClassDef))
    scope.bound.update(_parameters(node))
    scope.bound.update(param.name for param in getattr(node, "type_params", ()))
    bound = _bindings(body_of(node), scope)
    if scope.is_class:  # its names are bound one after the other: `limit = limit` reads one from outside
        scope.bound = {"__module__", "__qualname__"}
    else:
        scope.bound |= bound - scope.global_ - scope.nonlocal_
    return scope


def _parameters(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _FUNCTIONS):
        given = node.args
        for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
            if one is not None:
                yield one.arg
    if isinstance(node, _COMPREHENSIONS):
        for generator in node.generators:
            yield from (one.id for one in ast.walk(generator.target) if isinstance(one, ast.Name))


def body_of(node: ast.AST) -> list[ast.AST]:
    """What runs in the scope of `node`: of a lambda, its one expression."""
    body = getattr(node, "body", [])
    return list(body) if isinstance(body, list) else [body]


def _bindings(nodes: Iterable[ast.AST], scope: Scope) -> set[str]:
    """The names that statements bind in their own scope; inside a comprehension only `:=` does.

    A loop, and not a recursion of generators: every node of a function passes through here.
    """
    found: set[str] = set()
    waiting = [(node, False) for node in nodes]
    while waiting:
        node, inner = waiting.pop()
        children: Iterable[ast.AST] = ()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
            children = _evaluated_around(node)
        elif isinstance(node, ast.Lambda):
            children = _evaluated_around(node)
        elif isinstance(node, ast.Global):
            scope.global_.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            scope.nonlocal_.update(node.names)
        elif isinstance(node, ast.NamedExpr):
            found.add(node.target.id)
            children = (node.value,)
        else:
            if not inner:
                found.update(_bound_by(node))
            inner = inner or isinstance(node, _COMPREHENSIONS)
            children = ast.iter_child_nodes(node)
        waiting += [(child, inner) for child in children if not isinstance(child, _LEAVES)]
    return found


def _bound_by(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return import_binds(node)
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        return (node.name,)
    if isinstance(node, ast.MatchMapping) and node.rest:
        return (node.rest,)
    return ()


def import_binds(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that an import binds."""
    whole = isinstance(node, ast.ImportFrom)
    return [alias.asname or (alias.name if whole else alias.name.partition(".")[0]) for alias in node.names]


# ── heads ─────────────────────────────────────────────────────────────────────────────────────────


def parts_of_head(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What is evaluated where `node` is defined, each with what it is."""
    for decorator in getattr(node, "decorator_list", ()):
        yield "decorators", decorator
    if isinstance(node, ast.ClassDef):
        for base in (*node.bases, *(keyword.value for keyword in node.keywords)):
            yield "defaults", base
    if isinstance(node, _FUNCTIONS):
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                yield "defaults", default
        yield from (("annotations", one) for one in _annotations(node))


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[ast.expr]:
    given = node.args
    for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
        if one is not None and one.annotation is not None:
            yield one.annotation
    if not isinstance(node, ast.Lambda) and node.returns is not None:
        yield node.returns


def _evaluated_around(node: ast.AST) -> list[ast.expr]:
    return [part for _, part in parts_of_head(node)]
