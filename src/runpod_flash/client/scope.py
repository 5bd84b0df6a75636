"""What a function, or a remote class, reaches by value: its version now, and whether anything has changed since.

A name that is bound anew (a helper redefined in a notebook), or a captured list that was changed, makes the function to
be shipped again.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from runpod_flash.client.walk import Walk, canonical
from runpod_flash.payload.ownership import is_users_own

Root = types.FunctionType | type
"""What travels as a whole: a function, or a remote class."""


class Scope:
    """What the walk from one function, or from the methods of one class, found."""

    def __init__(self, root: Root) -> None:
        walk = Walk()
        if isinstance(root, type):
            walk.root(root)
        else:
            walk.function(root)
        self.root = root
        self.entries = methods_of(root) if isinstance(root, type) else [root]
        """What is called from outside."""
        self.captures = walk.captures
        self.functions = walk.functions
        self.modules = walk.modules
        """The user's own modules that are captured themselves."""
        self.version = hashlib.sha256("\n".join(walk.lines).encode("utf-8", "surrogatepass")).hexdigest()
        # The walk goes by ids, which stay taken only while the objects live.
        self._alive = walk.alive

    def named_modules(self) -> set[str]:
        """Modules that captured names stand for, or come from."""
        return {_module_of(capture.value) for capture in self.captures} - {""}

    def changed(self) -> bool:
        """Whether a captured name means something else by now."""
        for capture in self.captures:
            if capture.now() is not capture.value:
                return True
            if capture.content is not None and canonical(capture.value) != capture.content:
                return True
        return False


def methods_of(cls: type) -> list[types.FunctionType]:
    """The functions in the body of a class and of its bases that are the user's, those of properties included."""
    found: list[types.FunctionType] = []
    for one in cls.__mro__:
        module = sys.modules.get(one.__module__)
        if module is not None and not is_users_own(module):
            continue
        for member in vars(one).values():
            inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            if isinstance(inner, types.FunctionType):
                found.append(inner)
    return found


def function_name(function: Callable[..., Any]) -> str:
    """`module:qualname`; for what a script defines itself, `script.py:qualname`."""
    module = function.__module__ or "__main__"
    if module == "__main__":
        main = sys.modules.get("__main__")
        spec = getattr(main, "__spec__", None)
        if spec is not None and getattr(spec, "name", "__main__") != "__main__":
            module = spec.name  # python -m package.module
        elif file := getattr(main, "__file__", None):
            module = os.path.basename(file)
    return f"{module}:{function.__qualname__}"


def _module_of(value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return value.__name__
    named = value if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) else type(value)
    module: Any = named.__module__  # some metaclasses make it anything
    return module if isinstance(module, str) else ""


def location(function: Callable[..., Any]) -> str:
    """`file:line` of a function's definition, or of the first method of a class; "" if it has none."""
    if isinstance(function, type):
        methods = methods_of(function)
        return location(min(methods, key=lambda one: one.__code__.co_firstlineno)) if methods else ""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""
