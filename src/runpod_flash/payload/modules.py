"""The user's own modules as source: each a definition, imported in the worker by its name.

A function that imports modules of the user's brings them along, with all that they import of the user's. A worker may
get functions of several versions of a program, whose modules have the same names and other texts. So modules live in
*generations*: sets that agree on the text behind each name. Functions of one generation share its modules, and what
those keep from call to call; before a function of another generation runs, `sys.modules` is given that one's.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, NamedTuple, cast

from runpod_flash.payload.definitions import TABLE, find_local, show_sources
from runpod_flash.wire.digest import digest_of


class ModuleSource(NamedTuple):
    """One module as it travels. A folder without an `__init__.py` is a package without text."""

    name: str
    file: str
    is_package: bool
    text: str


class Modules:
    """What a function's definition says of them: name → digest. Reading it makes them importable, in a worker."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self.digests = dict(digests)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.digests,)


def pack_modules(sources: Iterable[ModuleSource]) -> Modules:
    """Makes a definition of each module."""
    import pickle  # noqa: PLC0415 - every import of this room is paid by the worker; the caller alone packs

    digests = {}
    for source in sources:
        body = pickle.dumps(((source,), {}), protocol=5)
        digests[source.name] = digest_of(body)
        TABLE.add(digests[source.name], body, ())
    return Modules(digests)


class Generation:
    """Modules that agree; those that are loaded wait in `asleep` while another generation is active."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.asleep: dict[str, ModuleType] = {}

    def agrees(self, digests: Mapping[str, str]) -> bool:
        """Whether no name has another text there."""
        return all(self.digests.get(name, digest) == digest for name, digest in digests.items())


class Shipped:
    """The generations of this process, and the finder that imports from the active one."""

    def __init__(self) -> None:
        self._active = Generation()
        self._all = [self._active]
        self._of_function: dict[str, Generation] = {}

    def arrived(self, digests: Mapping[str, str]) -> Generation:
        """Makes modules importable; the generation that has them is active afterwards."""
        if self not in sys.meta_path:
            # First, as the script's folder comes first on the caller's path.
            sys.meta_path.insert(0, self)
        found = next((one for one in self._all if one.agrees(digests)), None)
        if found is None:
            found = Generation()
            self._all.append(found)
        self._switch(found)
        for name in digests.keys() - found.digests.keys():
            sys.modules.pop(name, None)  # a namesake from the environment would be found instead
        found.digests.update(digests)
        return found

    def belongs(self, function: str, generation: Generation) -> None:
        """Says in which generation the function with that digest runs."""
        self._of_function[function] = generation

    def activate(self, function: str) -> None:
        """Called before each call of a function; nearly always there is nothing to do."""
        wanted = self._of_function.get(function)
        if wanted is not None and wanted is not self._active:
            self._switch(wanted)

    def find_class(self, module: str, qualname: str) -> type | None:
        """The class in a module that was shipped, so that it and its definition do not become two classes."""
        if module not in self._active.digests:
            return None
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - user code; importing it in the function's body will say what is wrong
            return None
        return find_local(module, qualname)

    def _switch(self, wanted: Generation) -> None:
        before, self._active = self._active, wanted
        if before is wanted:
            return
        before.asleep = {name: sys.modules.pop(name) for name in before.digests if name in sys.modules}
        sys.modules.update(wanted.asleep)
        wanted.asleep = {}

    # ── the protocol of finders and loaders ───────────────────────────────────────────────────────

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Where a module comes from, if it is one of ours."""
        digest = self._active.digests.get(name)
        if digest is None:
            return None
        source: ModuleSource = TABLE.load(digest)[0]
        # No folder to look in: what was not shipped is not there, also where the caller's disk is at hand.
        spec = ModuleSpec(name, cast("Any", self), origin=source.file, is_package=source.is_package)
        spec.loader_state = source
        spec.has_location = bool(source.file)
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """As the interpreter does it."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs the text of a module."""
        assert module.__spec__ is not None
        source: ModuleSource = module.__spec__.loader_state
        # Its classes travel back by name: the caller has them.
        module.__flash_shipped__ = True  # type: ignore[attr-defined]  # ours alone
        show_sources({source.file: {1: source.text.splitlines(keepends=True)}})
        code: CodeType = compile(source.text, source.file or f"<{source.name}>", "exec", dont_inherit=True)
        exec(code, module.__dict__)


SHIPPED = Shipped()
"""The shipped modules of this process."""

TABLE.find_shipped = SHIPPED.find_class


def _arrived(digests: dict[str, str]) -> Generation | None:
    """Stands in the definition of a function; the program that sent it has the modules themselves."""
    return None if TABLE.prefer_local else SHIPPED.arrived(digests)
