"""Annotations that are text, as under `from __future__ import annotations`: what they name goes along.

A worker that answers over HTTP reads requests by them, and has no module of the caller's to look a name up in. One that
is sent an argument of such a class needs the packages that the class is made of.
"""

from __future__ import annotations

import types
from typing import Any

from runpod_flash.payload import conversion, parameters


def spelled_out(function: types.FunctionType) -> types.FunctionType:
    """The function, or one like it with types where it has text that names something a request can become."""
    written: dict[str, Any] = function.__annotations__
    if not any(isinstance(one, str) for one in written.values()):
        return function
    known = parameters.hints(function)
    useful = {name: known[name] for name in written if name != "return" and name in known and _can_come(known[name])}
    twin = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__, twin.__module__, twin.__doc__ = function.__qualname__, function.__module__, function.__doc__
    twin.__dict__.update(function.__dict__)
    twin.__annotations__ = {**written, **useful}
    return twin


def _can_come(hint: Any) -> bool:
    """Whether knowing the type helps. Others (arrays, clients) stay text: they would bring their packages along."""
    if parameters.is_foreign_class(hint):
        return True
    try:
        conversion.converter(hint)
    except Exception:  # noqa: BLE001 - whatever is in the way of reading it, nobody will
        return False
    return True
