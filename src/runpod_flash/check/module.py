"""One module as the checker sees it: its remote functions, its resources, and what its names stand for."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias, TypeVar

from runpod_flash.analysis.bindings import Binding, bindings_of
from runpod_flash.analysis.facts import Facts
from runpod_flash.analysis.reading import facts_of
from runpod_flash.check.source import Source

OURS: Final = frozenset({"runpod_flash", "tetra_rp"})
RESOURCES: Final[Mapping[str, bool]] = {
    "LiveServerless": True,
    "CpuLiveServerless": True,
    "ServerlessEndpoint": True,
    "CpuServerlessEndpoint": True,
    "LiveLoadBalancer": False,
    "CpuLiveLoadBalancer": False,
    "LoadBalancerSlsResource": False,
    "CpuLoadBalancerSlsResource": False,
}
"""The eight classes, each with whether calls wait in a queue."""

Node = TypeVar("Node", bound=ast.AST)
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, eq=False, slots=True)
class Remote:
    """A function or class that was given to `remote`."""

    name: str
    """Under which the module calls it."""
    node: Definition
    call: ast.Call | None
    """`remote(…)`; None where the parentheses are missing."""
    around: tuple[ast.AST, ...]
    """Functions and classes that it is defined in, the outermost first."""

    @property
    def methods(self) -> list[Function]:
        """Of a class, what is defined in it; of a function, itself."""
        if not isinstance(self.node, ast.ClassDef):
            return [self.node]
        return [one for one in self.node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]


class Module:
    """What rules read. Everything is found once, when it is first asked for."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.parents: dict[ast.AST, ast.AST] = {}
        self._by_kind: dict[type[ast.AST], list[ast.AST]] = {}
        self._read(source.tree)

    def _read(self, tree: ast.AST) -> None:
        """One walk for all rules, parents first and in the order of the text, without recursion."""
        stack = [tree]
        while stack:
            node = stack.pop()
            self._by_kind.setdefault(type(node), []).append(node)
            children = _children(node)
            for child in children:
                self.parents[child] = node
            children.reverse()
            stack += children

    def of(self, kind: type[Node]) -> list[Node]:
        """All nodes of one kind, in the order of the text."""
        return self._by_kind.get(kind, [])  # type: ignore[return-value]  # filed under their own type

    @cached_property
    def names(self) -> dict[str, Binding]:
        """What the module itself binds, also inside its blocks."""
        return bindings_of(self.source.tree.body)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What imports anywhere in the file bind, as dotted names: `np` → `numpy`, `now` → `datetime.datetime.now`."""
        found: dict[str, str] = {}
        for node in self.of(ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        for whole in self.of(ast.ImportFrom):
            for alias in whole.names if whole.module else ():
                found[alias.asname or alias.name] = f"{'.' * whole.level}{whole.module}.{alias.name}"
        return found

    @cached_property
    def uses_flash(self) -> bool:
        """Whether the file has to do with Flash at all."""
        return any(name.partition(".")[0] in OURS for name in self.aliases.values())

    def dotted(self, node: ast.AST) -> str:
        """What a name or attribute stands for by the file's imports, such as `numpy.zeros`; "" if that is unclear."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            inner = self.dotted(node.value)
            return inner and f"{inner}.{node.attr}"
        return ""

    def ours(self, node: ast.AST) -> str:
        """The public name of this package that an expression stands for; "" if it is none."""
        package, _, rest = self.dotted(node).partition(".")
        if package not in OURS and package + rest not in self._starred:
            return ""
        return rest.rpartition(".")[2] if rest else package

    @cached_property
    def _starred(self) -> frozenset[str]:
        """The names that `from runpod_flash import *` brings."""
        starred = any(name.partition(".")[0] in OURS and name.endswith(".*") for name in self.aliases.values())
        return frozenset({"remote", *RESOURCES}) if starred else frozenset()

    # ── names ─────────────────────────────────────────────────────────────────────────────────────

    def facts(self, node: Definition) -> Facts:
        """What a definition uses from outside; read once."""
        if node not in self._facts:
            self._facts[node] = facts_of(node, postponed=self._postponed)
        return self._facts[node]

    @cached_property
    def _facts(self) -> dict[ast.AST, Facts]:
        return {}

    @cached_property
    def _postponed(self) -> bool:
        return self.aliases.get("annotations") == "__future__.annotations"

    @cached_property
    def hidden_names(self) -> frozenset[str]:
        """Names that the module may bind from elsewhere: `global` in a function, `:=`, a pattern, an `except … as`."""
        found = {name for node in self.of(ast.Global) for name in node.names}
        found.update(node.target.id for node in self.of(ast.NamedExpr))
        found.update(node.name or "" for node in self.of(ast.ExceptHandler))
        found.update(node.name or "" for node in self.of(ast.MatchAs))
        found.update(node.name or "" for node in self.of(ast.MatchStar))
        return frozenset(found)

    @cached_property
    def is_open(self) -> bool:
        """Whether names come in that the text does not show: a star import, `globals()`, `exec`."""
        starred = any(name.endswith(".*") and name.partition(".")[0] not in OURS for name in self.aliases.values())
        return starred or any(node.id in ("globals", "exec") for node in self.of(ast.Name))

    @cached_property
    def remote_names(self) -> frozenset[str]:
        """The names by which the module calls its remote functions."""
        return frozenset(remote.name for remote in self.remotes)

    # ── resources ─────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Module-level names that are assigned one expression, once."""
        counts: dict[str, int] = {}
        for node in self.of(ast.Name):
            if not isinstance(node.ctx, ast.Load) and not self.functions_around(node):
                counts[node.id] = counts.get(node.id, 0) + 1
        return {
            name: binding.value
            for name, binding in self.names.items()
            if binding.value is not None and counts.get(name) == 1
        }

    def resource(self, remote: Remote) -> ast.Call | None:
        """The constructor call of what a remote function runs on, where the file shows it."""
        node = argument(remote.call, "resource_config", 0) if remote.call else None
        if isinstance(node, ast.Name):
            node = self._assigned_before(node.id, remote.node.lineno)
        return node if isinstance(node, ast.Call) and self.ours(node.func) in RESOURCES else None

    def is_queue(self, remote: Remote) -> bool | None:
        """Whether its calls wait in a queue; None if the file does not say."""
        resource = self.resource(remote)
        return RESOURCES[self.ours(resource.func)] if resource else None

    def _assigned_before(self, name: str, line: int) -> ast.expr | None:
        """The last value that `name` was assigned above `line`: examples use one name for several resources."""
        best: ast.Assign | ast.AnnAssign | None = None
        for node in self._assignments.get(name, ()):
            if node.lineno < line and (best is None or node.lineno > best.lineno):
                best = node
        return best.value if best else None

    @cached_property
    def _assignments(self) -> dict[str, list[ast.Assign | ast.AnnAssign]]:
        found: dict[str, list[ast.Assign | ast.AnnAssign]] = {}
        for node in self.of(ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node)
        for annotated in self.of(ast.AnnAssign):
            if isinstance(annotated.target, ast.Name):
                found.setdefault(annotated.target.id, []).append(annotated)
        return found

    # ── remote functions ──────────────────────────────────────────────────────────────────────────

    @cached_property
    def remotes(self) -> list[Remote]:
        """Everything in the file that is given to `remote`, in order."""
        if not self.uses_flash:
            return []
        found = [*self._decorated(), *self._wrapped()]
        return sorted(found, key=lambda one: one.node.lineno)

    def _decorated(self) -> Iterator[Remote]:
        for node in self.definitions:
            for decorator in node.decorator_list:
                if self._is_remote(decorator):
                    yield Remote(node.name, node, self._remote_call(decorator), tuple(self.scopes_around(node)))

    def _wrapped(self) -> Iterator[Remote]:
        """`fast = remote(config)(plain)`, where the file defines `plain`."""
        defined = {node.name: node for node in self.definitions if self.parents[node] is self.source.tree}
        for node in self.of(ast.Call):
            if isinstance(node.func, (ast.Call, ast.Name)) and len(node.args) == 1 and not node.keywords:
                call, given = self._remote_call(node.func), node.args[0]
                if call is not None and isinstance(given, ast.Name) and given.id in defined:
                    yield Remote(self._bound_by(node) or given.id, defined[given.id], call, ())

    @cached_property
    def functions(self) -> list[Function]:
        """Every function of the file, also those inside others."""
        return [*self.of(ast.FunctionDef), *self.of(ast.AsyncFunctionDef)]

    @cached_property
    def definitions(self) -> list[Definition]:
        """Those, and every class."""
        return [*self.functions, *self.of(ast.ClassDef)]

    @cached_property
    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """Every import of the file."""
        return [*self.of(ast.Import), *self.of(ast.ImportFrom)]

    def _is_remote(self, node: ast.expr) -> bool:
        return self._remote_call(node) is not None or self.ours(node) == "remote"

    def _remote_call(self, node: ast.expr) -> ast.Call | None:
        """The call of `remote` behind a decorator, which may have a name of its own."""
        if isinstance(node, ast.Name):
            value = self.constants.get(node.id)
            return self._remote_call(value) if isinstance(value, ast.Call) else None
        return node if isinstance(node, ast.Call) and self.ours(node.func) == "remote" else None

    def _bound_by(self, node: ast.AST) -> str:
        parent = self.parents.get(node)
        if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and isinstance(parent.targets[0], ast.Name):
            return parent.targets[0].id
        return ""

    # ── places ────────────────────────────────────────────────────────────────────────────────────

    def scopes_around(self, node: ast.AST) -> list[ast.AST]:
        """The functions, classes and lambdas whose body a node stands in, the outermost first."""
        found: list[ast.AST] = []
        child, parent = node, self.parents.get(node)
        while parent is not None:
            if isinstance(parent, SCOPES) and in_body(parent, child):
                found.append(parent)
            child, parent = parent, self.parents.get(parent)
        return found[::-1]

    def functions_around(self, node: ast.AST) -> list[ast.AST]:
        """Of those, the functions."""
        return [scope for scope in self.scopes_around(node) if not isinstance(scope, ast.ClassDef)]


def in_body(scope: ast.AST, child: ast.AST) -> bool:
    """Whether a child of a definition belongs to what runs inside, not to its head."""
    body = getattr(scope, "body", None)
    return child in body if isinstance(body, list) else child is body


def argument(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """What a call gives for an argument, by name or by position."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if position is not None and position < len(call.args):
        given = call.args[: position + 1]
        return None if any(isinstance(one, ast.Starred) for one in given) else given[-1]
    return None


def keyword_of(call: ast.Call, name: str) -> ast.keyword | None:
    """The keyword itself, for its place."""
    return next((keyword for keyword in call.keywords if keyword.arg == name), None)


def _children(node: ast.AST) -> list[ast.AST]:
    """As ast.iter_child_nodes, without Load, Store and Del, at half its price: this is where most of the time goes."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            found.append(value)
    return found


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What belongs to a function's body and to no function or class inside it."""
    body = getattr(function, "body", [])
    stack: list[ast.AST] = list(reversed(body)) if isinstance(body, list) else [body]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, SCOPES):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))
