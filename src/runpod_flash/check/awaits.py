"""The rule on forgotten awaits: a call of a remote function whose awaitable is used as if it were the value.

Only what cannot be meant is reported. An awaitable may be stored, returned, collected, or handed to somebody else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from runpod_flash.check.finding import Finding
from runpod_flash.check.module import SCOPES, Module

AWAITED: Final = frozenset({"remote", "local", "spawn"})
"""Verbs of a remote function that give an awaitable."""
ITERATED: Final = frozenset({"map", "starmap", "stream"})
"""Verbs that give an async iterator."""
_OF_AWAITABLES: Final = frozenset({
    "close", "send", "throw", "cr_await", "cr_code", "cr_frame", "cr_running", "__await__", "__name__", "__class__",
    "add_done_callback", "cancel",
})  # fmt: skip
_TAKES_VALUES: Final = frozenset({
    "print", "str", "repr", "len", "int", "float", "bool", "list", "dict", "tuple", "set", "sorted", "sum", "max",
    "min", "enumerate", "json.dumps", "json.dump", "pprint.pprint",
})  # fmt: skip
"""Calls that make nothing of an awaitable."""


def check(module: Module, imported: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Findings in a whole file. `imported`: names of remote functions that other files define."""
    names = module.remote_names | imported
    if not names:
        return
    for node in module.of(ast.Call):
        if name := _called(module, node, names):
            kind = _kind(node)
            if _forgotten(module, node, iterated=kind == "iterator"):
                yield _finding(module, node, name, kind)


def _finding(module: Module, call: ast.Call, name: str, kind: str) -> Finding:
    if kind == "iterator":
        why = "it gives an async iterator, and nothing runs until somebody goes through it"
        what, fix = "is used without async", f"write `async for … in {name}(…)`"
    else:
        why = "it gives something to await, and nothing runs until then"
        what, fix = "is not awaited", f"write `await {name}(…)`, or {name.partition('.')[0]}.sync(…) in plain code"
    return module.source.finding("FL301", call, f"the call of {name} {what}", why, fix)


def _called(module: Module, call: ast.Call, names: frozenset[str]) -> str:
    """The remote function as the call writes it, unless the name means something else there."""
    function: ast.expr = call.func
    verb = ""
    if isinstance(function, ast.Attribute) and function.attr in AWAITED | ITERATED:
        verb = f".{function.attr}"
        function = function.value
    if not isinstance(function, ast.Name) or function.id not in names or _is_class(module, function.id):
        return ""
    for scope in module.functions_around(call):
        if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
            facts = module.facts(scope)
            if function.id in facts.bound and not _defined_in(module, scope, function.id):
                return ""
    return function.id + verb


def _defined_in(module: Module, scope: ast.AST, name: str) -> bool:
    return any(remote.name == name and scope in remote.around for remote in module.remotes)


def _is_class(module: Module, name: str) -> bool:
    return any(remote.name == name and isinstance(remote.node, ast.ClassDef) for remote in module.remotes)


def _kind(call: ast.Call) -> str:
    function = call.func
    return "iterator" if isinstance(function, ast.Attribute) and function.attr in ITERATED else "call"


def _forgotten(module: Module, node: ast.expr, *, iterated: bool) -> bool:
    """Whether what `node` gives is certainly used in a wrong way, or not at all."""
    parent = module.parents[node]
    if isinstance(parent, ast.IfExp) and node is not parent.test:
        return _forgotten(module, parent, iterated=iterated)
    if isinstance(parent, (ast.Assign, ast.AnnAssign)):
        return _assigned(module, parent, iterated)
    return isinstance(parent, ast.Expr) or _misused(module, node, parent, iterated)


def _misused(module: Module, node: ast.expr, parent: ast.AST, iterated: bool) -> bool:
    if isinstance(parent, (ast.For, ast.comprehension)):
        return parent.iter is node and not getattr(parent, "is_async", 0)
    if isinstance(parent, ast.keyword):
        parent = module.parents[parent]
    if isinstance(parent, ast.Call):
        return node is not parent.func and _takes_values(module, parent)
    if iterated:
        return False
    if isinstance(parent, ast.Attribute):
        return parent.attr not in _OF_AWAITABLES
    if isinstance(parent, ast.Subscript):
        return parent.value is node
    if isinstance(parent, ast.Compare):
        return not any(isinstance(operator, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for operator in parent.ops)
    if isinstance(parent, (ast.If, ast.While, ast.IfExp)):
        return parent.test is node
    return isinstance(parent, (ast.BinOp, ast.UnaryOp, ast.AugAssign, ast.FormattedValue, ast.Assert))


def _takes_values(module: Module, call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in AWAITED:
        function = function.value
    own = isinstance(function, ast.Name) and function.id in module.remote_names
    return own or module.dotted(call.func) in _TAKES_VALUES


def _assigned(module: Module, statement: ast.Assign | ast.AnnAssign, iterated: bool) -> bool:
    """Whether no use of the name could be the await that is missing here."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if len(targets) != 1:
        return False
    if isinstance(targets[0], (ast.Tuple, ast.List)):
        return not iterated
    if not isinstance(targets[0], ast.Name) or iterated:
        return False
    name, scope = targets[0].id, _scope(module, statement)
    uses = [one for one in ast.walk(scope) if isinstance(one, ast.Name) and one.id == name]
    if any(isinstance(one, (ast.Global, ast.Nonlocal)) and name in one.names for one in ast.walk(scope)):
        return False
    read = [one for one in uses if isinstance(one.ctx, ast.Load)]
    if any(_scope(module, one) is not scope for one in read):
        return False
    after = [one for one in read if _belongs(one, statement, uses)]
    return all(_misused(module, one, module.parents[one], iterated=False) for one in after)


def _belongs(use: ast.Name, statement: ast.stmt, uses: list[ast.Name]) -> bool:
    """Whether a use may see what `statement` assigned: nothing assigns the name anew between them, as the text goes."""
    if use.lineno <= statement.lineno:
        return _may_come_again(uses, statement)
    later = [one.lineno for one in uses if not isinstance(one.ctx, ast.Load) and one.lineno > statement.lineno]
    return use.lineno <= min(later, default=use.lineno)


def _may_come_again(uses: list[ast.Name], statement: ast.stmt) -> bool:
    """In a loop, a use above the assignment sees it; a function with one assignment of the name is taken to loop."""
    return sum(not isinstance(one.ctx, ast.Load) for one in uses) == 1


def _scope(module: Module, node: ast.AST) -> ast.AST:
    parent = module.parents.get(node)
    while parent is not None and not isinstance(parent, SCOPES):
        node, parent = parent, module.parents.get(parent)
    return parent if parent is not None else module.source.tree
