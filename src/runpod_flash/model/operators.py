"""Operators of one object applied to another: how a JobOutput stands for a value of any type.

Python looks operators up on the class, so `__getattr__` cannot do this; every method is put there by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

_UNARY: Final = ("neg", "pos", "abs", "invert", "index")
# fmt: off
_BINARY: Final = (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod",
    "pow", "lshift", "rshift", "and_", "or_", "xor",
)
# fmt: on
_OTHERS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "__getitem__": operator.getitem,
        "__setitem__": operator.setitem,
        "__delitem__": operator.delitem,
        "__contains__": operator.contains,
        "__len__": len,
        "__bool__": bool,
        "__int__": int,
        "__float__": float,
        "__complex__": complex,
        "__round__": round,
        "__reversed__": reversed,
        "__divmod__": divmod,
        "__lt__": operator.lt,
        "__le__": operator.le,
        "__gt__": operator.gt,
        "__ge__": operator.ge,
    }
)


def delegate(kind: type[Any], value_of: Callable[[Any], Any]) -> None:
    """Give `kind` every operator, applied to what `value_of` finds in it; on both sides, if both are of `kind`."""
    binary = {name.rstrip("_"): getattr(operator, name) for name in _BINARY}
    methods = dict(_OTHERS) | {f"__{name}__": getattr(operator, name) for name in _UNARY}
    methods |= {f"__{name}__": function for name, function in binary.items()}
    for name, function in methods.items():
        setattr(kind, name, _forward(function, kind, value_of))
    for name, function in {**binary, "divmod": divmod}.items():
        setattr(kind, f"__r{name}__", _reflected(function, value_of))


def _forward(function: Callable[..., Any], kind: type[Any], value_of: Callable[[Any], Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any) -> Any:
        return function(value_of(self), *(value_of(arg) if isinstance(arg, kind) else arg for arg in args))

    return method


def _reflected(function: Callable[[Any, Any], Any], value_of: Callable[[Any], Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        return function(other, value_of(self))

    return method
