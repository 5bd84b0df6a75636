"""How exceptions are taken apart and put together, so that every class of them survives the trip.

The usual way calls the class with `args` again, which fails for all constructors that do not take exactly
what they pass on. Here the constructor is not called: arguments, attributes and the fields that C keeps
(`errno`, `start`, `value` …) are set on a new object.
"""

from __future__ import annotations

from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

_OF_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__")
_NOT_FIELDS = frozenset({"args", "__dict__", "__traceback__", "__context__", "__cause__", "__suppress_context__"})


def reduce_exception(error: BaseException) -> Any:
    """Like `__reduce_ex__`; an exception with pickling of its own (not a builtin's) is left to that."""
    kind = type(error)
    if _pickles_itself(kind):
        return NotImplemented
    state = {
        "dict": dict(vars(error)),
        "fields": _fields(error),
        "cause": error.__cause__,
        "suppress": error.__suppress_context__,
    }
    return _new, (kind, error.args), state, None, None, _fill


def _new(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    try:
        error = kind.__new__(kind, *args)
    except TypeError:  # a `__new__` of its own with another signature
        base = next(base for base in kind.__mro__ if base.__module__ == "builtins")
        error = base.__new__(kind, *args)
    error.args = args
    return error


def _fill(error: BaseException, state: dict[str, Any]) -> None:
    for name, value in state["fields"].items():
        with suppress(Exception):
            setattr(error, name, value)
    vars(error).update(state["dict"])
    # First the cause: setting it says to suppress the context, whether or not that was said before.
    error.__cause__ = state["cause"]
    error.__suppress_context__ = state["suppress"]


def _fields(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():
            if name not in _NOT_FIELDS and isinstance(member, (MemberDescriptorType, GetSetDescriptorType)):
                with suppress(AttributeError):
                    value = getattr(error, name)
                    if value is not None:
                        found.setdefault(name, value)
    return found


def _pickles_itself(kind: type[BaseException]) -> bool:
    return any(name in vars(base) for base in kind.__mro__ if base.__module__ != "builtins" for name in _OF_PICKLING)
