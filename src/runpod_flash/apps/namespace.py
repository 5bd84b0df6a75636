"""Modules of its own for each example of one program.

Two examples may both have a package `workers`. Each gets a package of its own around all that it has, whose name is
unique in `sys.modules`, and its modules run with an `__import__` that looks there first. So `from workers.gpu import x`
means the example's own also when it is executed later, inside a route, while everything that reads `__module__`
(pickle, Pydantic, typing) finds what is registered under that name.

Swapping entries of `sys.modules` around each import was the other way; it breaks when two requests import at once.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, all_suffixes
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from runpod_flash.analysis import modules

_MARK: Final = "__flash_namespace__"
"""The builtin of a module that says whose it is."""


class Namespace:
    """The modules of one folder, apart from all others."""

    def __init__(self, name: str, folder: Path) -> None:
        _install()
        self.folder = folder
        self.package = _free(re.sub(r"\W", "_", f"example_{name}"))
        self._builtins = {**vars(builtins), "__import__": self._import, _MARK: self}
        self._own: dict[str, bool] = {}
        _namespaces[self.package] = self
        sys.modules[self.package] = _package(self.package, folder)

    def load(self, module: str) -> ModuleType:
        """A module of the folder, by the name that the folder's own code has for it."""
        before = list(sys.path)
        with self.active():
            try:
                return importlib.import_module(self.inner(module))
            finally:
                sys.path[:] = before  # its way to the folder's modules would be everybody's

    def inner(self, module: str) -> str:
        """The name under which `sys.modules` has it."""
        return f"{self.package}.{module}"

    def plain(self, text: str) -> str:
        """A message without the names that only we use."""
        return text.replace(f"{self.package}.", "")

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it, functions that are sent to workers take modules of this folder along."""
        with modules.looking_first_in(str(self.folder)):
            yield

    def forget(self) -> None:
        """Takes everything out of `sys.modules` again."""
        for name in [one for one in sys.modules if one == self.package or one.startswith(f"{self.package}.")]:
            del sys.modules[name]
        _namespaces.pop(self.package, None)

    def has(self, module: str) -> bool:
        """Whether an absolute import of this name means a module of the folder."""
        top = module.partition(".")[0]
        if top not in self._own:
            self._own[top] = top not in sys.stdlib_module_names and self._lies_here(top)
        return self._own[top]

    def _lies_here(self, top: str) -> bool:
        place = self.folder / top
        if any(self.folder.joinpath(top + suffix).is_file() for suffix in all_suffixes()):
            return True
        if (place / "__init__.py").is_file():
            return True
        # A folder without code of its own may be one of data; what is installed under its name is meant then.
        return place.is_dir() and top not in sys.modules and PathFinder.find_spec(top) is None

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` of the folder's modules."""
        if level or not self.has(name):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        inner = self.inner(name)
        if fromlist:
            return builtins.__import__(inner, globals, locals, fromlist, 0)
        importlib.import_module(inner)
        return sys.modules[self.inner(name.partition(".")[0])]


@contextmanager
def as_of(module: str) -> Iterator[None]:
    """Within it, functions of that module are sent as from its own folder, if it is in a namespace."""
    namespace = _namespaces.get(module.partition(".")[0])
    if namespace is None:
        yield
        return
    with namespace.active():
        yield


def plain(text: str) -> str:
    """A message without the names that only we use, whichever example it is about."""
    for namespace in _namespaces.values():
        text = namespace.plain(text)
    return text


class _Loader(SourceFileLoader):
    """Runs a module with the builtins of its namespace."""

    def __init__(self, fullname: str, path: str, builtins_: dict[str, Any]) -> None:
        super().__init__(fullname, path)
        self._builtins = builtins_

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = self._builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of all namespaces, by the name of the package around them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        namespace = _namespaces.get(fullname.partition(".")[0])
        if namespace is None or path is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, namespace._builtins)
        return spec


_namespaces: dict[str, Namespace] = {}
_finder: Final = _Finder()
_import_module: Final = importlib.import_module


def _import_module_of_the_caller(name: str, package: str | None = None) -> ModuleType:
    """`importlib.import_module`, which asks no `__import__`: whose code calls it is all that can be known."""
    namespace = sys._getframe(1).f_builtins.get(_MARK)
    if isinstance(namespace, Namespace) and not name.startswith(".") and namespace.has(name):
        name = namespace.inner(name)
    return _import_module(name, package)


def _install() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
        importlib.import_module = _import_module_of_the_caller


def _package(name: str, folder: Path) -> ModuleType:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return importlib.util.module_from_spec(spec)


def _free(name: str) -> str:
    number, free = 1, name
    while free in sys.modules:
        number += 1
        free = f"{name}_{number}"
    return free
