"""Our own copy of cloudpickle, under a name that nobody else uses.

A pickle names the module whose functions rebuild it. Were that `cloudpickle`, both ends would need the
same version of it, and the worker's environment may hold any. So the one file is loaded under a private
name at both ends, and the user's own cloudpickle is neither used nor touched.
"""

from __future__ import annotations

import dis
import importlib.util
import sys
import threading
import typing
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

NAME: Final = "_flash_cloudpickle"

_LOAD_GLOBAL, _STORE_NAME = dis.opmap["LOAD_GLOBAL"], dis.opmap["STORE_NAME"]
_FLAG: Final = int(sys.version_info >= (3, 11))
"""Bits of a LOAD_GLOBAL's argument that are not the number of the name."""
_OF_MODULE: Final = {dis.opmap["STORE_GLOBAL"], dis.opmap["DELETE_GLOBAL"]}
_OTHERS: Final = _OF_MODULE | {
    dis.opmap[name] for name in ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in dis.opmap
}
_lock = threading.Lock()


def load() -> ModuleType:
    """The private module; loading it the first time takes about 20 ms."""
    module = sys.modules.get(NAME)
    if module is not None:
        return module
    with _lock:
        return sys.modules.get(NAME) or _load()


def find() -> Path:
    """Where cloudpickle's file lies; it is not imported for that."""
    own = importlib.util.find_spec(NAME)  # a worker: the file in its runtime folder
    if own is not None and own.origin:
        return Path(own.origin)
    package = importlib.util.find_spec("cloudpickle")
    if package is None or not package.origin:
        raise ModuleNotFoundError("Flash needs the package 'cloudpickle', and it is not installed", name="cloudpickle")
    return Path(package.origin).with_name("cloudpickle.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, find())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module  # before it runs: dataclasses and pickle look modules up there
    try:
        spec.loader.exec_module(module)
        _complete_classes_once(module)
        _see_names_of_class_bodies(module)
        _know_bases_that_are_functions(module)
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


def _see_names_of_class_bodies(module: Any) -> None:
    """Lets a class that a function defines use names of the function's module in its body.

    Such a body reads them by LOAD_NAME, which cloudpickle overlooks: the worker would not have them.
    """
    module._walk_global_ops = module_names


def _know_bases_that_are_functions(module: Any) -> None:
    """Lets named tuples and typed dictionaries be made again.

    `NamedTuple` as a base makes a new class from annotations, and takes no slots. And where a typed dictionary does not
    say what it was derived from, the class that it is to Python, `dict`, is none that such may have as its base.
    """
    bases_of = module._get_bases

    def _get_bases(cls: Any) -> Any:
        if typing.is_typeddict(cls) and "__orig_bases__" not in vars(cls):
            return (typing.TypedDict,)
        bases = bases_of(cls)
        if not issubclass(cls, tuple):
            return bases
        return tuple(tuple if getattr(one, "__name__", "") == "NamedTuple" else one for one in bases)

    module._get_bases = _get_bases


def module_names(code: CodeType) -> Iterator[str]:
    """The names that code reads from its module or writes there, without what is defined inside it.

    What the body of a class has bound by then is its own; before that, as in `limit = limit`, it is the module's. Read
    from the bytes themselves: `dis` makes objects, and took a quarter of the time in which a function is judged.
    """
    bound: set[str] = set()
    extended = 0
    raw = code.co_code
    for index in range(0, len(raw), 2):
        operation, argument = raw[index], extended | raw[index + 1]
        if operation == dis.EXTENDED_ARG:
            extended = argument << 8
            continue
        extended = 0
        if operation == _STORE_NAME:
            bound.add(code.co_names[argument])
        elif operation == _LOAD_GLOBAL:
            yield code.co_names[argument >> _FLAG]
        elif operation in _OTHERS:
            name = code.co_names[argument]
            if operation in _OF_MODULE or name not in bound:
                yield name


def _complete_classes_once(module: Any) -> None:
    """Lets a class that comes back from a worker be the class it was, with the attributes it has by now.

    cloudpickle finds the live class again, and then overwrites its attributes with those it had when it
    was sent. Here a class is filled only by the pickle that created it.
    """
    fill = module._class_setstate
    get_or_make_id = module._get_or_create_tracker_id
    complete: weakref.WeakSet[Any] = weakref.WeakSet()

    def _class_setstate(cls: Any, state: Any) -> Any:
        if cls in complete:
            return cls
        complete.add(cls)
        return fill(cls, state)

    def _get_or_create_tracker_id(cls: Any) -> Any:
        complete.add(cls)  # it is being pickled here, so it is whole
        return get_or_make_id(cls)

    _class_setstate.__module__, _class_setstate.__qualname__ = NAME, fill.__qualname__
    module._class_setstate = _class_setstate
    module._get_or_create_tracker_id = _get_or_create_tracker_id
