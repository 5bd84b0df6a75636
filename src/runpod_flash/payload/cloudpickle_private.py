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
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

NAME: Final = "_flash_cloudpickle"

_OF_CLASS_BODIES: Final = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
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
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


def _see_names_of_class_bodies(module: Any) -> None:
    """Lets a class that a function defines use names of the function's module in its body.

    Such a body reads them by LOAD_NAME, which cloudpickle overlooks: the worker would not have them. What the body has
    bound by then is its own; before that, as in `limit = limit`, it is the module's.
    """
    of_module = set(module.GLOBAL_OPS)

    def _walk_global_ops(code: CodeType) -> Iterator[str]:
        bound: set[str] = set()
        for step in dis.get_instructions(code):
            if step.opname == "STORE_NAME":
                bound.add(step.argval)
            elif step.opcode in of_module or (step.opname in _OF_CLASS_BODIES and step.argval not in bound):
                yield step.argval

    module._walk_global_ops = _walk_global_ops


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
