"""What annotations are made of and `typing` knows by a name: variables of types, new types, and aliases.

Pickle sends such by the name, which means nothing where the module is not: the user's own travel as what they are.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from runpod_flash.payload import cloudpickle_private
from runpod_flash.payload.ownership import is_users_own

_cloudpickle: Any = cloudpickle_private.load()
# Newer than the oldest Python that Flash runs on.
_VariableTuple: Any = getattr(typing, "TypeVarTuple", None)
_Alias: Any = getattr(typing, "TypeAliasType", None)
_NO_DEFAULT: Final = getattr(typing, "NoDefault", None)

_FLAGS: Final = ("covariant", "contravariant", *(["infer_variance"] if _Alias else []))
_STARS: Final = {typing.TypeVar: "", typing.ParamSpec: "**", _VariableTuple: "*"}


def _by_name(named: Any) -> Any:
    """How to find it again, or None for the user's own."""
    found = _cloudpickle._lookup_module_and_qualname(named, name=named.__name__)
    return None if found is None or is_users_own(found[0]) else (getattr, found)


def _by_value(named: Any, *arguments: Any, **options: Any) -> Any:
    return _make, (type(named), named.__module__, (named.__name__, *arguments), options)


def _make(kind: Any, module: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    # All note the module of who makes them.
    scope = {"__name__": module, "kind": kind, "arguments": arguments, "options": options}
    return eval("kind(*arguments, **options)", scope)


def _reduce_variable(variable: Any) -> Any:
    if found := _by_name(variable):
        return found
    options: dict[str, Any] = {flag: True for flag in _FLAGS if getattr(variable, f"__{flag}__", False)}
    if (bound := getattr(variable, "__bound__", None)) is not None:
        options["bound"] = bound
    # Where typing has no defaults, typing_extensions notes them in the same place.
    if _NO_DEFAULT is not None and variable.__default__ is not _NO_DEFAULT:
        options["default"] = variable.__default__
    return _by_value(variable, *getattr(variable, "__constraints__", ()), **options)


def _reduce_part(part: Any) -> Any:
    return type(part), (part.__origin__,)


def _reduce_new_type(new: Any) -> Any:
    return _by_name(new) or _by_value(new, new.__supertype__)


# ── aliases: `type X = …` ─────────────────────────────────────────────────────────────────────────


def _reduce_alias(alias: Any) -> Any:
    if found := _by_name(alias):
        return found
    if not _mentions(alias.__value__, alias, set()):
        return _by_value(alias, alias.__value__, type_params=alias.__type_params__)
    # One that is part of itself: it has to be there before its value is.
    parameters = [_STARS[type(one)] + one.__name__ for one in alias.__type_params__]
    return _declare, (alias.__module__, alias.__name__, parameters), alias.__value__, None, None, _complete


def _mentions(value: Any, alias: Any, seen: set[int]) -> bool:
    if value is alias:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, list):  # the parameters of a Callable
        parts: Sequence[Any] = value
    else:
        parts = [typing.get_origin(value), *typing.get_args(value)]
        if isinstance(value, _Alias):
            parts.append(value.__value__)
    return any(_mentions(part, alias, seen) for part in parts)


_incomplete: Final[dict[int, list[Any]]] = {}
"""id of an alias that was declared → where it looks for its value."""


def _declare(module: str, name: str, parameters: Sequence[str]) -> Any:
    """Only the statement makes one that gets its value later."""
    value: list[Any] = []
    scope: dict[str, Any] = {"__name__": module, "_value": value}
    exec(f"type {name}{'[' + ', '.join(parameters) + ']' if parameters else ''} = _value[0]", scope)
    _incomplete[id(scope[name])] = value
    return scope[name]


def _complete(alias: Any, value: Any) -> None:
    _incomplete.pop(id(alias)).append(value)


REDUCERS: Final[dict[Any, Callable[[Any], Any]]] = {
    typing.TypeVar: _reduce_variable,
    typing.ParamSpec: _reduce_variable,
    typing.ParamSpecArgs: _reduce_part,
    typing.ParamSpecKwargs: _reduce_part,
    typing.NewType: _reduce_new_type,
    **({_VariableTuple: _reduce_variable} if _VariableTuple else {}),
    **({_Alias: _reduce_alias} if _Alias else {}),
}
