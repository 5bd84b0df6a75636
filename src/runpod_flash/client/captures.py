"""What a function captures: names bound outside it, with the values that travel along."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_DATA: Final = 1 << 20
"""Bytes of captured data that may travel with a function. More belongs into an argument or a file."""

_CONTAINERS: Final = (list, dict, set, bytearray, deque)
_CODE: Final = (types.FunctionType, types.ModuleType, types.BuiltinFunctionType, type)
MISSING: Final = object()


@dataclass(slots=True)
class Capture:
    """One name that a function uses and does not define: where it is bound, and to what it was bound."""

    name: str
    value: Any
    owner: types.FunctionType
    namespace: Mapping[str, Any] | types.CellType
    content: str | None  # of a container, which can change and still be the same object

    def now(self) -> Any:
        """What the name is bound to in this moment. Asked before every call."""
        if isinstance(self.namespace, types.CellType):
            return contents(self.namespace)
        return self.namespace.get(self.name, MISSING)

    @property
    def is_data(self) -> bool:
        """Whether it is neither code nor a module: what may refuse to travel."""
        return not isinstance(self.value, _CODE)


def contents(cell: types.CellType) -> Any:
    """What a closure's variable holds, MISSING before it was assigned."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def may_change(value: Any) -> bool:
    """Whether a value can become another one and stay the same object, in a way that is worth looking for."""
    if isinstance(value, tuple):
        return any(map(may_change, value))
    return isinstance(value, _CONTAINERS)


def too_large(value: Any) -> bool:
    """Whether a value is surely larger than may travel, told without going through it."""
    # Each item of a container takes at least a byte in a pickle.
    return plain_size(value) > MOST_DATA or (isinstance(value, _CONTAINERS) and len(value) > MOST_DATA)


def plain_size(value: Any) -> int:
    """The bytes in texts, bytes and arrays; 0 for what does not say it at once."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    try:
        size = getattr(value, "nbytes", 0)
    except Exception:  # noqa: BLE001 - an object of the user's; some are not there except within a request
        return 0
    return size if isinstance(size, int) else 0
