"""Which modules are the user's own, so that what they define travels by value."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, Final

OURS: Final = frozenset({"runpod_flash", "tetra_rp", "_flash_cloudpickle"})
_MAIN: Final = frozenset({"__main__", "__mp_main__"})
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD: Final = os.path.dirname(os.path.abspath(os.__file__)) + os.sep

_known: dict[tuple[str, str | None], bool] = {}


def is_users_own(module: ModuleType) -> bool:
    """Whether `module` is neither installed, nor of the standard library, nor of ours."""
    key = (module.__name__, getattr(module, "__file__", None))
    answer = _known.get(key)
    if answer is None:
        answer = _known[key] = _is_users_own(module, *key)
    return answer


def users_own_class(cls: type) -> bool:
    """Whether `cls` can be found by its name in one of the user's own modules."""
    name: Any = cls.__module__  # some metaclasses make it anything
    found: Any = sys.modules.get(name) if isinstance(name, str) else None
    if found is None or not is_users_own(found):
        return False
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls


def _is_users_own(module: ModuleType, name: str, file: str | None) -> bool:
    if name in _MAIN:
        return True
    if name.partition(".")[0] in OURS:
        return False
    if not file:
        # Built into the interpreter, frozen, or a folder without a file of its own; but a module that somebody
        # made by hand (a notebook, exec) has no spec and exists nowhere else.
        return getattr(module, "__spec__", None) is None and name not in sys.builtin_module_names
    path = os.path.abspath(file)
    if any(part in path for part in _INSTALLED):
        return False
    return not path.startswith(_STANDARD) and not path.startswith("<frozen")
