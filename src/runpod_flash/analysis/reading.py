"""Reads the facts of one function from its syntax tree. What no scope of it binds comes from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from runpod_flash.analysis.facts import MUTATING, Facts, How, Import, Mutation, Use
from runpod_flash.analysis.scopes import Scope, body_of, import_binds, parts_of_head, scope_of

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
"""What facts can be read of."""

_NAME_ERRORS: Final = frozenset({"NameError", "Exception", "BaseException"})
_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_EVERYTHING: Final = frozenset({"BaseException"})
_IMPORTERS: Final = frozenset({"import_module", "__import__"})


def facts_of(node: Definition, *, shift: int = 0, postponed: bool = False) -> Facts:
    """The facts of a function, lambda or class.

    `shift` is added to every line: for a tree of a part of a file. `postponed`: annotations are not evaluated, as
    under `from __future__ import annotations`.
    """
    reader = _Reader(shift, postponed)
    head = _Head(reader)
    root = scope_of(node, None)
    for name, part in parts_of_head(node):
        if name != "annotations":  # evaluated where the function is defined, and never asked for where it runs
            head.read(name, part)
    reader.body(node, root)
    return Facts(
        name=getattr(node, "name", "<lambda>"),
        line=node.lineno + shift,
        uses=reader.uses(),
        imports=tuple(reader.imports),
        mutations=tuple(reader.mutations),
        bound=frozenset(root.bound),
        decorators=head.uses("decorators"),
        defaults=head.uses("defaults"),
    )


def imports_of(tree: ast.Module) -> tuple[Import, ...]:
    """Every import of a module; those in its functions are deferred."""
    reader = _Reader(0, postponed=False)
    reader.body(tree, scope_of(tree, None))
    return tuple(reader.imports)


def is_type_checking(test: ast.expr) -> bool:
    """Whether the condition is `TYPE_CHECKING`: its block is for type checkers and never runs."""
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


# ── heads ───────────────────────────────────────────────────────────────────────────────────────────


class _Head:
    """Uses in the parts of the outermost head, each part read as if it stood outside the function."""

    def __init__(self, reader: _Reader) -> None:
        self._readers = {name: _Reader(reader.shift, reader.postponed) for name in ("decorators", "defaults")}

    def read(self, name: str, part: ast.expr) -> None:
        self._readers[name].visit(part, Scope(None))

    def uses(self, name: str) -> tuple[Use, ...]:
        return self._readers[name].uses()


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Uses:
    lines: dict[int, None] = field(default_factory=dict)
    members: dict[str, None] = field(default_factory=dict)
    guarded: bool = True


class _Reader:
    """Goes through a body once and collects."""

    def __init__(self, shift: int, postponed: bool) -> None:
        self.shift = shift
        self.postponed = postponed
        self.imports: list[Import] = []
        self.mutations: list[Mutation] = []
        self._uses: dict[str, _Uses] = {}
        self._survives: frozenset[str] = frozenset()  # errors that the place being read survives
        self._depth = 0  # functions around that place

    def uses(self) -> tuple[Use, ...]:
        return tuple(
            Use(name, tuple(sorted(found.lines)), tuple(found.members), found.guarded)
            for name, found in self._uses.items()
        )

    def body(self, node: ast.AST, scope: Scope) -> None:
        """The inside of a function or class. It runs later, so the `try` around its definition guards nothing of it."""
        before = self._survives, self._depth
        if not scope.is_class:
            self._survives, self._depth = frozenset(), self._depth + 1
        for statement in body_of(node):
            self.visit(statement, scope)
        self._survives, self._depth = before

    def visit(self, node: ast.AST, scope: Scope) -> None:
        reader: Any = getattr(self, f"_{type(node).__name__}", None)
        if reader is None:
            self._children(node, scope)
        else:
            reader(node, scope)

    def _children(self, node: ast.AST, scope: Scope) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child, scope)

    # ── names ─────────────────────────────────────────────────────────────────────────────────────

    def _Name(self, node: ast.Name, scope: Scope) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node, scope)
        elif isinstance(node.ctx, ast.Store):
            self._bind(node.id, node, f"{node.id} = …", scope)
        else:
            self._bind(node.id, node, f"del {node.id}", scope)

    def _use(self, node: ast.Name, scope: Scope, member: str | None = None) -> None:
        if not scope.outside(node.id):
            return
        found = self._uses.setdefault(node.id, _Uses())
        found.lines[node.lineno + self.shift] = None
        found.guarded = found.guarded and bool(self._survives & _NAME_ERRORS)
        if member is not None:
            found.members[member] = None

    def _bind(self, name: str, node: ast.AST, text: str, scope: Scope) -> None:
        if scope.is_class and name not in scope.global_ | scope.nonlocal_:
            scope.bound.add(name)
        elif scope.outside(name):
            self._mutation(name, node, "bind", text)

    def _mutation(self, name: str, node: Any, how: How, text: str, through: tuple[str, ...] = ()) -> None:
        self.mutations.append(Mutation(name, node.lineno + self.shift, how, text, through))

    def _Attribute(self, node: ast.Attribute, scope: Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node, node.value, "attribute", _written(node), scope)
        if isinstance(node.value, ast.Name) and isinstance(node.value.ctx, ast.Load):
            self._use(node.value, scope, node.attr)
        else:
            self.visit(node.value, scope)

    def _Subscript(self, node: ast.Subscript, scope: Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node, node.value, "item", _written(node), scope)
        self._children(node, scope)

    def _Call(self, node: ast.Call, scope: Scope) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in MUTATING:
            self._change(node, function.value, "call", f"{ast.unparse(function)}(…)", scope)
        self._dynamic_import(node)
        self._children(node, scope)

    def _change(self, node: ast.AST, changed: ast.expr, how: How, text: str, scope: Scope) -> None:
        root, through = _root(changed)
        if root is not None and scope.outside(root.id):
            self._mutation(root.id, node, how, text, through)

    def _AugAssign(self, node: ast.AugAssign, scope: Scope) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            self._use(target, scope)
            self._bind(target.id, target, f"{target.id} {_OPERATORS.get(type(node.op), '')}= …", scope)
        else:
            self.visit(target, scope)
        self.visit(node.value, scope)

    def _Assign(self, node: ast.Assign, scope: Scope) -> None:
        self.visit(node.value, scope)
        for target in node.targets:
            self.visit(target, scope)

    def _For(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        self.visit(node.iter, scope)
        for part in (node.target, *node.body, *node.orelse):
            self.visit(part, scope)

    _AsyncFor = _For

    def _AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.visit(node.value, scope)
        if node.value is not None or not isinstance(node.target, ast.Name):  # `x: int` alone binds nothing
            self.visit(node.target, scope)
        if scope.is_class:  # a function's local annotations are never evaluated
            self._annotation(node.annotation, scope)

    def _annotation(self, node: ast.expr, scope: Scope) -> None:
        if not self.postponed:
            self.visit(node, scope)

    def _ExceptHandler(self, node: ast.ExceptHandler, scope: Scope) -> None:
        if node.name:
            self._bind(node.name, node, f"except … as {node.name}", scope)
        self._children(node, scope)

    def _pattern(self, node: Any, scope: Scope) -> None:
        self._children(node, scope)
        if name := getattr(node, "name", None) or getattr(node, "rest", None):
            self._bind(name, node, f"case {name}", scope)

    _MatchAs = _MatchStar = _MatchMapping = _pattern

    # ── scopes inside ─────────────────────────────────────────────────────────────────────────────

    def _FunctionDef(self, node: Any, scope: Scope) -> None:
        self._inner(node, scope)
        self._bind(node.name, node, f"def {node.name}", scope)

    _AsyncFunctionDef = _FunctionDef

    def _ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        self._inner(node, scope)
        self._bind(node.name, node, f"class {node.name}", scope)

    def _inner(self, node: Any, scope: Scope) -> None:
        around = scope
        if params := getattr(node, "type_params", ()):  # seen by head and body, and by nothing else
            around = Scope(scope, bound={param.name for param in params})
        for part, expression in parts_of_head(node):
            if part == "annotations":
                self._annotation(expression, around)
            else:
                self.visit(expression, around)
        self.body(node, scope_of(node, around))

    _Lambda = _inner

    def _comprehension(self, node: Any, scope: Scope) -> None:
        inner = scope_of(node, scope)
        # `:=` in a comprehension binds around it, which _bindings has told that scope.
        self.visit(node.generators[0].iter, scope)
        for index, generator in enumerate(node.generators):
            if index:
                self.visit(generator.iter, inner)
            self.visit(generator.target, inner)
            for condition in generator.ifs:
                self.visit(condition, inner)
        for name in ("key", "value", "elt"):
            if (part := getattr(node, name, None)) is not None:
                self.visit(part, inner)

    _ListComp = _SetComp = _DictComp = _GeneratorExp = _comprehension

    # ── imports and what guards them ──────────────────────────────────────────────────────────────

    def _Import(self, node: ast.Import, scope: Scope) -> None:
        for alias, name in zip(node.names, import_binds(node), strict=True):
            self._bind(name, node, f"import {alias.name}", scope)
            self._imported(node, alias.name, binds=(name,))

    def _ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        binds = tuple(import_binds(node))
        for name in binds:
            self._bind(name, node, f"from {node.module or '.'} import {name}", scope)
        names = tuple(alias.name for alias in node.names)
        self._imported(node, node.module or "", names, node.level, binds)

    def _dynamic_import(self, node: ast.Call) -> None:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name not in _IMPORTERS or not node.args:
            return
        wanted = node.args[0]
        if isinstance(wanted, ast.Constant) and isinstance(wanted.value, str) and not wanted.value.startswith("."):
            self._imported(node, wanted.value)

    def _imported(
        self, node: Any, module: str, names: tuple[str, ...] = (), level: int = 0, binds: tuple[str, ...] = ()
    ) -> None:
        guarded = bool(self._survives & _IMPORT_ERRORS)
        deferred = self._depth > 1
        self.imports.append(Import(module, node.lineno + self.shift, names, level, guarded, deferred, binds))

    def _Try(self, node: Any, scope: Scope) -> None:
        self._guarded(node.body, frozenset().union(*map(_caught, node.handlers)), scope)
        for rest in (node.handlers, node.orelse, node.finalbody):
            for child in rest:
                self.visit(child, scope)

    _TryStar = _Try

    def _With(self, node: Any, scope: Scope) -> None:
        for item in node.items:
            self.visit(item, scope)
        self._guarded(node.body, frozenset().union(*(_suppressed(item.context_expr) for item in node.items)), scope)

    _AsyncWith = _With

    def _If(self, node: ast.If, scope: Scope) -> None:
        self.visit(node.test, scope)
        if not is_type_checking(node.test):
            self._guarded(node.body, _asked_for(node.test), scope)
        for child in node.orelse:
            self.visit(child, scope)

    def _guarded(self, body: Iterable[ast.AST], survives: frozenset[str], scope: Scope) -> None:
        before = self._survives
        self._survives = before | survives
        for child in body:
            self.visit(child, scope)
        self._survives = before


_OPERATORS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitOr: "|", ast.BitAnd: "&", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.MatMult: "@",
}  # fmt: skip


def _root(node: ast.expr) -> tuple[ast.Name | None, tuple[str, ...]]:
    """The name that `a.b[0].c` starts from, and the steps from there."""
    steps: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        steps.append(node.attr if isinstance(node, ast.Attribute) else "[]")
        node = node.value
    return (node if isinstance(node, ast.Name) else None), tuple(reversed(steps))


def _written(node: ast.Attribute | ast.Subscript) -> str:
    text = ast.unparse(node)
    return f"del {text}" if isinstance(node.ctx, ast.Del) else f"{text} = …"


def _caught(handler: ast.ExceptHandler) -> frozenset[str]:
    if handler.type is None:
        return _EVERYTHING
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return frozenset(map(_last_name, kinds))


def _suppressed(expression: ast.expr) -> frozenset[str]:
    if isinstance(expression, ast.Call) and _last_name(expression.func) == "suppress":
        return frozenset(map(_last_name, expression.args))
    return frozenset()


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _asked_for(test: ast.expr) -> frozenset[str]:
    """`if find_spec("x"):` is as good as catching the error of an import."""
    asks = any(isinstance(one, ast.Call) and _last_name(one.func) == "find_spec" for one in ast.walk(test))
    return frozenset({"ImportError"} if asks else ())
