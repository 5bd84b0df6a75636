"""What `flash call` is pointed at: a file or module of the user's, and the remote functions in it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from runpod_flash.client.classes import RemoteClass
from runpod_flash.client.function import RemoteFunction
from runpod_flash.client.import_failure import import_failed
from runpod_flash.errors import FlashError, UsageError, did_you_mean

SEPARATOR: Final = "::"


def split(target: str) -> tuple[str, str]:
    """File or module, and the function's name; "" if only the first was given."""
    source, _, name = target.partition(SEPARATOR)
    if not source:
        raise UsageError(f"{target!r} names no file", fix="write it as FILE.py::function or package.module::function")
    return source, name


def load(source: str) -> ModuleType:
    """The user's module. It is imported: its name is not `__main__`, so a guarded main program does not run.

    What it prints meanwhile goes to standard error: standard output is for the result.
    """
    path = Path(source)
    named = not _looks_like_a_file(source, path)
    if not named:
        _check_file(path)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return _import_module(source) if named else _import_file(path.absolute())
        except FlashError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's module does, it is told
            raise import_failed(source, error) from None


def folder_of(source: str) -> Path:
    """Where the user's program lies; for a module the current folder, as with `python -m`."""
    path = Path(source)
    return path.absolute().parent if _looks_like_a_file(source, path) else Path.cwd()


def find(module: ModuleType, name: str, source: str) -> RemoteFunction[Any, Any, Any]:
    """The remote function of that name."""
    found = vars(module).get(name)
    if isinstance(found, RemoteFunction):
        return found
    known = remote_functions(module)
    listing = f"flash call {source}"
    if isinstance(found, RemoteClass):
        raise UsageError(
            f"{name} is a remote class, and flash call runs functions",
            why="a class is constructed first, and its methods are called on what that gives",
            fix=f"write a remote function that does both; see which there are: {listing}",
        )
    if callable(found):
        raise UsageError(
            f"{name} is no remote function",
            where=_place(found),
            why="flash call runs functions under @remote, and this one has no decorator",
            fix="put @remote(LiveServerless(name=…)) above it, or call one of its remote functions: " + listing,
        )
    if not known:
        raise UsageError(f"{source} has no remote functions", why="none of its functions is under @remote")
    raise UsageError(
        f"{source} has no remote function {name!r}.{did_you_mean(name, known)}",
        why=f"its remote functions are {', '.join(known)}",
        fix=f"see what they do: {listing}",
    )


def remote_functions(module: ModuleType) -> dict[str, RemoteFunction[Any, Any, Any]]:
    """The remote functions that a module has, its own and those it imported, in the order of the file."""
    return {name: thing for name, thing in vars(module).items() if isinstance(thing, RemoteFunction)}


# ── import ────────────────────────────────────────────────────────────────────────────────────────


def _looks_like_a_file(source: str, path: Path) -> bool:
    return source.endswith(".py") or os.sep in source or path.is_file() or path.is_dir()


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", fix=f"name a file in it: flash call {path}/FILE.py")
        if path.is_file():
            path.open("rb").close()
            return
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read", why=str(getattr(error, "strerror", None) or error)) from None
    there = [one.name for one in path.parent.glob("*.py")] if path.parent.is_dir() else []
    where = f"its folder has {', '.join(sorted(there)[:8])}" if there else f"the current folder is {Path.cwd()}"
    raise UsageError(f"there is no file {path}.{did_you_mean(path.name, there)}", why=where)


def _import_file(path: Path) -> ModuleType:
    """A file of a package under its full name, so that its relative imports work; any other under its own."""
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.name.isidentifier():
        names.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    if len(names) > 1:
        name = ".".join(names[:-1] if path.stem == "__init__" else names)
        return importlib.import_module(name)
    return _execute(path, _free_name(path))


def _free_name(path: Path) -> str:
    """The file's own name, unless a module that we have loaded has it: `json.py` of the user's becomes `json_`."""
    name = path.stem.replace(".", "_") or "_"
    while name in sys.modules:
        name += "_"
    return name


def _execute(path: Path, name: str) -> ModuleType:
    from importlib.machinery import SourceFileLoader

    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{name!r} is neither a file nor the name of a module",
            fix="write it as FILE.py::function or package.module::function",
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise UsageError(
            f"there is no module {name!r}",
            why=f"it is neither in {Path.cwd()} nor installed for {sys.executable}",
            fix="name the file instead: flash call path/to/file.py::function",
        ) from None


def _place(function: Any) -> str | None:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else None
