"""Our own code for interpreters that have none of it: a folder with copies of the caller's.

The worker's interpreter sees the caller's `runpod_flash`, cloudpickle under a private name (so that the
user's own version neither breaks ours nor is shadowed) and msgspec. A copy, because the caller's environment
may be deleted while its workers live.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from runpod_flash.model.endpoint import RuntimeSpec

PICKLER = "_flash_cloudpickle.py"
ALIAS = "tetra_rp"
"""The earlier name of the package, for functions that import that."""


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
            _copy_file(_pickler(Path(spec.cloudpickle)), temporary / PICKLER)
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
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is gone")
    for path in _walk(source):
        if wanted(path.name):
            _copy_file(path, target / path.relative_to(source))


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from () if path.name == "__pycache__" else _walk(path)
        else:
            yield path


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
