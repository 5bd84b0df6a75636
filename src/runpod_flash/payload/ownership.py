"""Which modules are the user's own, so that what they define travels by value."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from runpod_flash.analysis.modules import is_own_module

_known: dict[tuple[str, str | None], bool] = {}


def is_users_own(module: ModuleType) -> bool:
    """Whether `module` is neither installed, nor of the standard library, nor of ours."""
    key = (module.__name__, getattr(module, "__file__", None))
    answer = _known.get(key)
    if answer is None:
        answer = _known[key] = is_own_module(module)
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
