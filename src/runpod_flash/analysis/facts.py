"""What one function uses from outside itself: plain frozen facts, for whoever judges them.

Lines count as in the file. *Outside* means: neither a parameter nor bound in the function or in what it defines.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Final, Literal

MUTATING: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault", "sort",
    "symmetric_difference_update", "update",
})  # fmt: skip
"""Methods by which lists, dicts, sets and deques change. Other objects have methods of these names, too."""


@dataclass(frozen=True, slots=True)
class Use:
    """A name from outside, with the lines that read it."""

    name: str
    lines: tuple[int, ...]
    members: tuple[str, ...] = ()
    """Attributes that are read from it directly: `("loads",)` for `json.loads(…)`."""
    guarded: bool = False
    """Whether each use stands in a `try` that survives a NameError."""

    @property
    def builtin(self) -> bool:
        """Whether the interpreter has the name where the module has not."""
        return hasattr(builtins, self.name)


@dataclass(frozen=True, slots=True)
class Import:
    """One module that an import statement, or `import_module("…")`, asks for."""

    module: str
    """As written, without leading dots: "a.b" for `import a.b` and `from a.b import c`; "" for `from . import c`."""
    line: int
    names: tuple[str, ...] = ()
    """What `from … import` takes out of it; ("*",) for everything."""
    level: int = 0
    """Leading dots: 0 for an absolute import."""
    guarded: bool = False
    """Whether its failure is survived: a `try` that catches ImportError, `suppress(ImportError)`, `if find_spec(…)`."""
    deferred: bool = False
    """Whether it stands in a function inside what was read, so that it is asked for later, or never."""
    binds: tuple[str, ...] = ()
    """The names that it binds, by `as` if need be."""

    @property
    def top(self) -> str:
        """The part before the first dot: what is installed; "" for a relative import."""
        return "" if self.level else self.module.partition(".")[0]


How = Literal["bind", "item", "attribute", "call"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A place where a name from outside is assigned, or what it stands for is changed."""

    name: str
    line: int
    how: How
    """bind: `global N; N = …`, nonlocal, del · item: `N[…] = …` · attribute: `N.a = …` · call: `N.append(…)`."""
    text: str
    """As a reader would write it: `TOTAL += …`, `SEEN[key] = …`, `RESULTS.append(…)`."""
    through: tuple[str, ...] = ()
    """Steps from the name to what is changed: an attribute's name, or "[]". Empty for the name's own value."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that one function, lambda or class says about the world outside."""

    name: str
    line: int
    uses: tuple[Use, ...] = ()
    """Of its body, in order of the first use. Also those that are assigned or changed, if they are read."""
    imports: tuple[Import, ...] = ()
    mutations: tuple[Mutation, ...] = ()
    bound: frozenset[str] = frozenset()
    """Names that the body itself binds, parameters included."""
    decorators: tuple[Use, ...] = ()
    defaults: tuple[Use, ...] = ()

    def use(self, name: str) -> Use | None:
        """The use of a name in the body."""
        return next((use for use in self.uses if use.name == name), None)
