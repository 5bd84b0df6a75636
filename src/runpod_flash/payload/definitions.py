"""Definitions: the bytes of functions and classes, named by their digest and sent once.

A class of the user's own modules never travels inside a value. In its place stands
`_definition(digest, module, qualname)`, and the bytes travel once to each process that needs them. So an
instance costs a few dozen bytes, every pickle that a worker reads means the *same* class, and a class that
comes back to a program that has it is the program's own: `isinstance`, `==` and `except` hold.

The body of a definition is a pickle of (members, sources): a function alone, or a class, or several classes
that need one another. A process has one table, because it has one set of classes.
"""

from __future__ import annotations

import linecache
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from runpod_flash.errors import EncodingError
from runpod_flash.payload import libraries

Sources = dict[str, dict[int, list[str]]]
"""File name → first line → source lines from there, so a traceback shows them where the file is not."""


class MissingDefinition(EncodingError):
    """A definition is needed that is not here; `digest` names it."""

    def __init__(self, digest: str, needed_for: str) -> None:
        super().__init__(f"the definition of {needed_for} has not arrived", why=f"there is none with digest {digest}")
        self.digest = digest


class Definitions:
    """Bodies by digest, and the live classes that they stand for."""

    def __init__(self) -> None:
        self.prefer_local = True
        """Whether a class that this program has by module and name goes before the one that was sent."""
        self.find_shipped: Callable[[str, str], type | None] = _none
        """Looks a class up, by module and name, in the modules that came as source."""
        self.lock = threading.RLock()
        self._bodies: dict[str, bytes] = {}
        self._needs: dict[str, tuple[str, ...]] = {}
        self._members: dict[str, tuple[Any, ...]] = {}
        self._imports: dict[str, frozenset[str]] = {}
        self._found: dict[tuple[str, str, str], Callable[[], type | None]] = {}
        self._loading: list[dict[str, None]] = []
        self.digest_by_id: dict[int, tuple[weakref.ref[type], str]] = {}
        """id of a class → (the class, the digest of the definition that it is a member of)."""

    def add(self, digest: str, body: bytes, needs: Iterable[str] | None = None, imports: Iterable[str] = ()) -> None:
        """Takes a definition in; `needs` are the digests that it refers to, where they are known.

        `imports`: modules that reading it imports, by name.
        """
        self._bodies.setdefault(digest, bytes(body))
        if needs is not None:
            self._needs.setdefault(digest, tuple(needs))
        if imports:
            self._imports.setdefault(digest, frozenset(imports))

    def body(self, digest: str) -> bytes:
        """The bytes to send; MissingDefinition if they are not here."""
        try:
            return self._bodies[digest]
        except KeyError:
            raise MissingDefinition(digest, "something") from None

    def texts(self) -> list[tuple[str, bytes]]:
        """Definitions with JSON in them (a pickle never begins like that) and their digests, the latest first."""
        return [(digest, body) for digest, body in reversed(self._bodies.items()) if body.startswith(b"{")]

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of `digests` that are not here."""
        return [digest for digest in digests if digest not in self._bodies]

    def closure(self, digests: Iterable[str]) -> list[str]:
        """`digests` and all that they need, each after what it needs itself."""
        ordered: dict[str, None] = {}
        for digest in digests:
            self._visit(digest, ordered)
        return list(ordered)

    def imports(self, digests: Iterable[str]) -> set[str]:
        """The modules that reading these definitions imports, where they were made here."""
        return {module for digest in digests for module in self._imports.get(digest, ())}

    def load(self, digest: str) -> tuple[Any, ...]:
        """The members of a definition, made once for each process."""
        members = self._members.get(digest)
        if members is not None:
            return members
        with self.lock:
            members = self._members.get(digest)
            if members is None:
                members = self._members[digest] = self._load(digest)
            return members

    def forget(self, digest: str) -> None:
        """Lets go of a loaded function, so that it can be freed; its bytes stay, and classes do too."""
        self._members.pop(digest, None)

    def register(self, digest: str, cls: type) -> None:
        """Says that `cls` is a member of the definition `digest`, as it was pickled or made here."""
        # Not by the class itself: a metaclass may define `==` without a hash.
        reference = weakref.ref(cls)
        self.digest_by_id[id(cls)] = (reference, digest)
        self._found[digest, cls.__module__, cls.__qualname__] = reference

    def redefine(self, cls: type) -> None:
        """The next pickle that meets the class defines it anew, from what it and its methods are by then."""
        with self.lock:
            self.digest_by_id.pop(id(cls), None)

    def resolve(self, digest: str, module: str, qualname: str) -> type:
        """The class that stands behind a reference in a pickle."""
        if self._loading:
            self._loading[-1][digest] = None
        known = self._found.get((digest, module, qualname))
        cls = known() if known is not None else None
        if cls is None:
            cls = find_local(module, qualname) if self.prefer_local else self.find_shipped(module, qualname)
            if cls is not None:
                self._found[digest, module, qualname] = weakref.ref(cls)
        return cls if cls is not None else self._member(digest, module, qualname)

    def _member(self, digest: str, module: str, qualname: str) -> type:
        if digest not in self._bodies:
            raise MissingDefinition(digest, f"{module}.{qualname}")
        for member in self.load(digest):
            if isinstance(member, type) and (member.__module__, member.__qualname__) == (module, qualname):
                return member
        raise EncodingError(
            f"the definition {digest} holds no {module}.{qualname}",
            why="the class was renamed or moved after the value was sent",
            fix="send it again",
        )

    def _load(self, digest: str) -> tuple[Any, ...]:
        self._loading.append({})
        try:
            members, sources = pickle.loads(self.body(digest))
        except EncodingError:
            raise
        except Exception as error:  # noqa: BLE001 — whatever a class raises while it is made again
            explained = libraries.explain(error, at_the_caller=self.prefer_local)
            raise explained or error from None
        finally:
            needs = tuple(self._loading.pop())
        self._needs.setdefault(digest, needs)
        show_sources(sources)
        for member in members:
            if isinstance(member, type):
                self.register(digest, member)
        return tuple(members)

    def _visit(self, digest: str, ordered: dict[str, None]) -> None:
        if digest not in ordered:
            for need in self._needs.get(digest, ()):
                self._visit(need, ordered)
            ordered[digest] = None


def _none(_module: str, _qualname: str) -> type | None:
    return None


TABLE = Definitions()
"""The definitions of this process."""


def _definition(digest: str, module: str, qualname: str) -> type:
    """Stands in a pickle for a class; looks it up when the pickle is read."""
    return TABLE.resolve(digest, module, qualname)


def fill_module(module: ModuleType, state: dict[str, Any]) -> None:
    """Gives a module that travelled by value its contents; not entered in `sys.modules`."""
    vars(module).update(state)


def find_local(module: str, qualname: str) -> type | None:
    """The class that this program has under a name, without importing anything."""
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) else None


def show_sources(sources: Sources) -> None:
    """Lets tracebacks show these lines, whether or not the file can be read here."""
    for filename, blocks in sources.items():
        entry: tuple[Any, ...] = linecache.cache.get(filename, ())
        lines: list[str] = list(entry[2]) if len(entry) == 4 else []  # shorter: not read yet
        for first, block in blocks.items():
            lines.extend(["\n"] * (first + len(block) - 1 - len(lines)))
            lines[first - 1 : first - 1 + len(block)] = block
        # A time of None marks an entry that linecache never checks against the disk.
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)
