"""What a remote function reaches: itself, and the functions and classes of the same file that travel with it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from runpod_flash.analysis.bindings import Binding, bindings_of
from runpod_flash.analysis.facts import Facts, Use
from runpod_flash.analysis.reading import facts_of
from runpod_flash.check.module import Definition, Module, Remote

_ALWAYS_THERE: Final = frozenset(dir(builtins)) | {
    "__annotations__", "__builtins__", "__cached__", "__class__", "__debug__", "__dict__", "__doc__", "__file__",
    "__loader__", "__name__", "__package__", "__path__", "__spec__",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One definition that runs on the worker."""

    node: Definition
    facts: Facts
    direct: bool
    """Whether it is the remote function itself, and not something that it uses."""

    def place(self, use: str, line: int) -> ast.AST:
        """The node that reads or binds a name at a line."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Name) and node.id == use and node.lineno == line:
                return node
        for node in ast.walk(self.node):
            if isinstance(node, ast.stmt) and node.lineno == line:
                return node
        return self.node


class Reach:
    """The parts of one remote function, and what the names in them stand for."""

    def __init__(self, module: Module, remote: Remote) -> None:
        self.module = module
        self.remote = remote
        self._around = [
            bindings_of(getattr(scope, "body", ())) for scope in remote.around if not isinstance(scope, ast.ClassDef)
        ]
        self._parameters: frozenset[str] = frozenset().union(
            *(
                facts_of(scope).bound
                for scope in remote.around
                if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef))
            )
        )
        self.parts = list(self._parts())

    def uses(self) -> Iterator[tuple[Part, Use, Binding | None]]:
        """Every name from outside that the parts read, with what binds it in the file; None if nothing does."""
        for part in self.parts:
            for use in part.facts.uses:
                binding = self.binding(use.name)
                if binding is not None or use.name not in _ALWAYS_THERE:
                    yield part, use, binding

    def binding(self, name: str) -> Binding | None:
        """What binds a name outside the function, the nearest scope first."""
        for scope in reversed(self._around):
            if name in scope:
                return scope[name]
        return self.module.names.get(name)

    def may_be_defined(self, name: str) -> bool:
        """Whether a name might be bound in a way that no list of bindings shows."""
        return name in self._parameters or name in self.module.hidden_names or self.module.is_open

    def _parts(self) -> Iterator[Part]:
        waiting: list[Definition] = [self.remote.node]
        seen: set[ast.AST] = set(waiting)
        while waiting:
            node = waiting.pop(0)
            facts = self.module.facts(node)
            yield Part(node, facts, direct=node is self.remote.node)
            for use in facts.uses:
                binding = self.binding(use.name)
                helper = binding.node if binding and binding.kind in ("function", "class") else None
                if helper is None or helper in seen or use.name in self.module.remote_names:
                    continue
                if isinstance(helper, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    seen.add(helper)
                    waiting.append(helper)
