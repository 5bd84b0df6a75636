"""Functions of a test module as they were written: pytest compiles its `assert` statements into something longer.

Such code calls into pytest, which a worker has no reason to have. So it is compiled once more from the source, and what
travels fails as it would outside of a test: `AssertionError: the message`.
"""

from __future__ import annotations
import __future__

import linecache
import types
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Final

_REWRITTEN: Final = "@pytest_ar"
"""The global name, impossible in source text, by which rewritten code reaches pytest."""
_FUTURE: Final = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def as_written(function: types.FunctionType) -> types.FunctionType:
    """The function, or its twin without rewritten asserts; a twin only if its source can be read here."""
    code = function.__code__
    if not _is_rewritten(code):
        return function
    found = _compiled(code.co_filename, code.co_flags & _FUTURE).get(_place(code))
    if found is None or found.co_freevars != code.co_freevars:
        return function
    twin = types.FunctionType(
        found, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__"):
        setattr(twin, name, getattr(function, name))
    with suppress(NameError):  # evaluated late, and naming what is not there yet
        twin.__annotations__ = function.__annotations__
    vars(twin).update(vars(function))
    return twin


def _is_rewritten(code: types.CodeType) -> bool:
    return _REWRITTEN in code.co_names or any(map(_is_rewritten, _inner(code)))


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, types.CodeType))


def _place(code: types.CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


@lru_cache(maxsize=16)
def _compiled(filename: str, flags: int) -> dict[tuple[str, int], types.CodeType]:
    """All functions of a file, by name and line."""
    try:
        module = compile("".join(linecache.getlines(filename)), filename, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[str, int], types.CodeType] = {}
    waiting = [module]
    while waiting:
        code = waiting.pop()
        found[_place(code)] = code
        waiting.extend(_inner(code))
    return found
