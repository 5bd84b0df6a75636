"""Our own code for interpreters that have none of it: a folder with copies of the caller's.

The worker's interpreter sees the caller's `runpod_flash`, cloudpickle under a private name (so that the
user's own version neither breaks ours nor is shadowed) and msgspec. A copy, because the caller's environment
may be deleted while its workers live.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path
from typing import Final

from runpod_flash.model.endpoint import RuntimeSpec

PICKLER = "_flash_cloudpickle.py"
ALIAS = "tetra_rp"
"""The earlier name of the package, for functions that import that."""
_BYTECODE: Final = "__pycache__"


class RuntimeMissing(OSError):
    """The caller's own copies are gone and nothing of this key was kept."""


class Runtimes:
    """The folder of such folders, each named by what is in it; one that has its final name is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        """Where the runtime of that key lies, if it does."""
        if not key or not key.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise ValueError(f"{key!r} cannot be the name of a folder")
        return self._folder / key

    def ensure(self, spec: RuntimeSpec) -> Path:
        """The folder for `spec`, copied unless it is there; says with RuntimeMissing that it cannot be."""
        target = self.path(spec.key)
        if not target.is_dir():
            self._copy(spec, target)
        return target

    def sweep(self) -> list[Path]:
        """What a dead predecessor left half done, for deletion."""
        return [path for path in self._entries() if path.name.startswith("tmp.")]

    def _copy(self, spec: RuntimeSpec, target: Path) -> None:
        temporary = self._folder / f"tmp.{os.getpid()}.{spec.key}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            package = Path(spec.package)
            _copy_tree(package, temporary / package.name, _is_source)
            if (alias := package.parent / ALIAS).is_dir():
                _copy_tree(alias, temporary / ALIAS, _is_source)
            _copy_tree(Path(spec.msgspec), temporary / "msgspec", _is_module)
            if spec.tomli:
                _copy_tree(Path(spec.tomli), temporary / "tomli", _is_module)
            _copy_file(str(_pickler(Path(spec.cloudpickle))), str(temporary / PICKLER))
            os.rename(temporary, target)
        except OSError as error:
            if not target.is_dir():
                raise RuntimeMissing(f"cannot copy Flash's own code for the worker: {error}") from error

    def _entries(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.is_dir()] if self._folder.is_dir() else []


def _pickler(path: Path) -> Path:
    """The module cloudpickle/cloudpickle.py, which needs nothing else of its package."""
    folder = path.parent if path.name == "__init__.py" else path
    return folder / "cloudpickle.py" if folder.is_dir() else folder


def _is_source(name: str) -> bool:
    """Code, and the pages that an app shows which runs on a worker."""
    return name.endswith((".py", ".html", ".gz")) or name == "py.typed"


def _is_module(name: str) -> bool:
    return name.endswith((".py", ".so", ".dylib", ".pyd")) or name == "py.typed"


def _copy_tree(source: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Some hundred files, while somebody waits for their first call: no more is done for each than has to be."""
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is gone")
    target.mkdir(mode=0o700, parents=True)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != _BYTECODE:
                    _copy_tree(Path(entry.path), target / entry.name, wanted)
            elif wanted(entry.name):
                _copy_file(entry.path, f"{target}/{entry.name}")


def _copy_file(source: str, target: str) -> None:
    _write(target, _read(source))
    if source.endswith(".py"):
        _copy_bytecode(source, target)


def _copy_bytecode(source: str, target: str) -> None:
    """Spares the first worker to compile what the caller has compiled already, which is half of its start.

    Python takes it for what it is by the time and size of the source; one of another version looks for its own. A
    link, which costs nothing: bytecode is never changed, only replaced. Where there can be none, it is compiled.
    """
    if sys.pycache_prefix is not None or sys.implementation.cache_tag is None:
        return  # it lies elsewhere, under the name of the folder that this one is made in, or there is none
    with contextlib.suppress(OSError):
        bytecode, place = cache_from_source(source), cache_from_source(target)
        times = os.stat(source)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        os.link(bytecode, place)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(data)
