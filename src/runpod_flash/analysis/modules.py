"""Whose a module is: the standard library's, ours, the user's own, or installed. Found without importing anything.

Installed from a folder of this machine (`pip install .`, `pip install -e .`) counts as the user's own: no index has it.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final, Literal, cast

from runpod_flash.analysis import installed

OURS: Final = frozenset({"runpod_flash", "tetra_rp", "_flash_cloudpickle"})
_MAIN: Final = frozenset({"__main__", "__mp_main__"})
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD: Final = os.path.dirname(os.path.abspath(os.__file__)) + os.sep

_first: ContextVar[tuple[str, ...]] = ContextVar("_first", default=())
_remembered: ContextVar[dict[str, Found | None] | None] = ContextVar("_remembered", default=None)
Owner = Literal["standard", "ours", "own", "installed"]


@dataclass(frozen=True, slots=True)
class Found:
    """Where an absolute import would find a module."""

    name: str
    owner: Owner
    file: str = ""
    """Its source or library; "" for a namespace package and for what is built in."""
    folders: tuple[str, ...] = ()
    """Of a package: where its submodules are looked for."""

    @property
    def is_package(self) -> bool:
        """Whether it may have submodules."""
        return bool(self.folders)


def is_standard(name: str) -> bool:
    """Whether a module belongs to the standard library."""
    return name.partition(".")[0] in sys.stdlib_module_names


def is_ours(name: str) -> bool:
    """Whether a module is a part of Flash, which every worker has."""
    return name.partition(".")[0] in OURS


@contextmanager
def looking_first_in(*folders: str) -> Iterator[None]:
    """Within it, these folders come before the path: of several apps in one program, each has modules of its own."""
    before = _first.set(folders)
    try:
        yield
    finally:
        _first.reset(before)


@contextmanager
def remembering() -> Iterator[None]:
    """Within it, what `find` has found once it does not look for again."""
    before = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(before)


def find(name: str) -> Found | None:
    """The module of an absolute name, or None. Parents are looked through, and not imported."""
    known = _remembered.get()
    if known is None:
        return _find(name)
    if name not in known:
        known[name] = _find(name)
    return known[name]


def _find(name: str) -> Found | None:
    if name in _MAIN:
        return Found(name, "own")
    if is_ours(name):
        return Found(name, "ours")
    if is_standard(name):
        return Found(name, "standard")
    spec = _spec(name)
    if spec is None:
        return None
    file = spec.origin if spec.has_location and spec.origin else ""
    folders = _folders(spec)
    return Found(name, _owner(name, file or (folders[0] if folders else "")), file, folders)


def is_own_file(file: str) -> bool:
    """Whether a file is neither installed nor of the standard library."""
    path = os.path.abspath(file)
    if any(part in path for part in _INSTALLED):
        return False
    return not path.startswith(_STANDARD) and not path.startswith("<frozen")


def is_own_module(module: ModuleType) -> bool:
    """Whether a module that is loaded is the user's own."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if name in _MAIN:
        return True
    if is_ours(name) or hasattr(module, "__flash_shipped__"):
        return False  # a worker has what was shipped to it, under its name
    if not file:
        # Built into the interpreter, frozen, or a folder without a file of its own; but a module that somebody
        # made by hand (a notebook, exec) has no spec and exists nowhere else.
        return getattr(module, "__spec__", None) is None and name not in sys.builtin_module_names
    return _is_own(name, file)


def _owner(name: str, place: str) -> Owner:
    return "own" if place and _is_own(name, place) else "installed"


def _is_own(name: str, place: str) -> bool:
    if is_own_file(place):
        # Installed into any folder of the user's choice (`pip install --target`), it is installed all the same.
        return not installed.is_listed(name, place)
    return not is_standard(name) and not place.startswith("<") and installed.is_from_folder(name, place)


def _spec(name: str) -> ModuleSpec | None:
    """What the import system would load: parents give the folders in which to look."""
    folders: Sequence[str] = ()
    spec: ModuleSpec | None = None
    whole = ""
    for part in name.split("."):
        spec = _in_folders(f"{whole}.{part}", folders) if whole else _on_the_path(part)
        whole = f"{whole}.{part}" if whole else part
        if spec is None:
            return None
        folders = _folders(spec)
    return spec


def _on_the_path(name: str) -> ModuleSpec | None:
    nearby = _in_folders(name, _first.get())
    # A folder without code of its own may be one of data; what is installed under its name is meant then.
    return nearby if nearby is not None and nearby.loader is not None else _anywhere(name) or nearby


def _anywhere(name: str) -> ModuleSpec | None:
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None)
        except Exception:  # noqa: BLE001 - a finder of somebody else; the next may know better
            continue
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _in_folders(name: str, folders: Sequence[str]) -> ModuleSpec | None:
    """A submodule. The finders of whole paths want its parents imported; those of single folders do not."""
    spaces: list[str] = []
    for folder in folders:
        find_spec = getattr(pkgutil.get_importer(folder), "find_spec", None)
        spec = find_spec(name) if find_spec is not None else None
        if spec is not None and spec.loader is not None:
            return cast("ModuleSpec", spec)
        spaces += getattr(spec, "submodule_search_locations", None) or ()
    if not spaces:
        return None
    found = ModuleSpec(name, None, is_package=True)
    found.submodule_search_locations = spaces
    return found


def _folders(spec: ModuleSpec) -> tuple[str, ...]:
    """Where the submodules of a package lie; nothing if it is none."""
    return tuple(spec.submodule_search_locations or ())
