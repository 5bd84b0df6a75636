"""What a function reaches by value: a plain walk that gives its version, and notices when something changed.

The *version* is a hash of source text and of a canonical form of what is captured, so it is the same in every process
that runs the same program; the bytes that pickle makes are not (sets, shared tuples). A name that is bound anew (a
helper redefined in a notebook), or a captured list that was changed, makes the function to be shipped again.
"""

from __future__ import annotations

import ast
import dis
import enum
import hashlib
import inspect
import os
import re
import sys
import textwrap
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runpod_flash.payload.ownership import is_users_own, users_own_class

_PLAIN: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(Ellipsis),
    type(NotImplemented),
    range,
)
_CONTAINERS: Final = (list, dict, set, bytearray, deque)
_NAMING: Final = re.compile(r"LOAD_NAME|.*_GLOBALS?$")
_MISSING: Final = object()


@dataclass(slots=True)
class Capture:
    """One name that a function uses and does not define: where it is bound, and to what it was bound."""

    name: str
    value: Any
    owner: types.FunctionType
    namespace: Mapping[str, Any] | types.CellType
    content: str | None  # of a container, which can change and still be the same object

    def now(self) -> Any:
        """What the name is bound to in this moment."""
        if isinstance(self.namespace, types.CellType):
            try:
                return self.namespace.cell_contents
            except ValueError:
                return _MISSING
        return self.namespace.get(self.name, _MISSING)

    @property
    def where(self) -> str:
        """`file:line` of the first use."""
        code = self.owner.__code__
        return f"{code.co_filename}:{_line_of(code, self.name)}"


class Scope:
    """What the walk from one function found."""

    def __init__(self, function: types.FunctionType) -> None:
        walk = _Walk()
        walk.function(function)
        self.captures = walk.captures
        self.version = hashlib.sha256("\n".join(walk.lines).encode("utf-8", "surrogatepass")).hexdigest()
        # The walk goes by ids, which stay taken only while the objects live.
        self._alive = walk.alive

    def changed(self) -> bool:
        """Whether a captured name means something else by now."""
        for capture in self.captures:
            if capture.now() is not capture.value:
                return True
            if capture.content is not None and canonical(capture.value) != capture.content:
                return True
        return False

    def values(self) -> Iterator[Capture]:
        """The captures that are neither code nor modules: what may refuse to travel."""
        code = (types.FunctionType, types.ModuleType, types.BuiltinFunctionType, type)
        return (capture for capture in self.captures if not isinstance(capture.value, code))


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


def location(function: Callable[..., Any]) -> str:
    """`file:line` of a function's definition, "" if it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def canonical(value: Any) -> str:
    """Text that is equal for equal values, in every process."""
    return _Walk().value(value)


class _Walk:
    """Collects lines that say all there is to say about a function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.captures: list[Capture] = []
        self.alive: list[Any] = []
        self._numbers: dict[int, str] = {}  # of functions, classes and modules that were met
        self._open: set[int] = set()  # containers being written: a list may contain itself

    def function(self, function: types.FunctionType) -> str:
        """The text that stands for a function where it is met; its own lines come once."""
        if mark := self._numbers.get(id(function)):
            return mark
        mark = self._number("def", function)
        self._write(mark, _source(function.__code__))
        self._write(mark, "defaults", self.value(function.__defaults__), self.value(function.__kwdefaults__))
        self._write(mark, "annotations", self.value(_annotations(function)))
        for name in sorted(_global_names(function.__code__)):
            if name in function.__globals__:
                self._capture(mark, name, function.__globals__[name], function, function.__globals__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                contents = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self._capture(mark, name, contents, function, cell)
        return mark

    def _capture(
        self,
        mark: str,
        name: str,
        value: Any,
        owner: types.FunctionType,
        namespace: Mapping[str, Any] | types.CellType,
    ) -> None:
        text = self.value(value)
        content = canonical(value) if _may_change(value) else None
        self.captures.append(Capture(name, value, owner, namespace, content))
        self._write(mark, name, text)

    def value(self, value: Any) -> str:
        """The text that stands for any value."""
        kind = type(value)
        if kind in _PLAIN:
            return f"{kind.__name__} {value!r}"
        if kind is types.FunctionType:
            return self._any_function(value)
        if isinstance(value, type):
            return self._class(value)
        if kind is types.ModuleType:
            return self._module(value)
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        try:
            return self._container(value) or self._object(value)
        except RecursionError:
            return f"deep {_type_name(kind)}"
        finally:
            self._open.discard(id(value))

    def _any_function(self, function: types.FunctionType) -> str:
        module = sys.modules.get(function.__module__ or "")
        if module is not None and not is_users_own(module) and _found(module, function) is function:
            return f"name {function.__module__}.{function.__qualname__}"
        return self.function(function)

    def _class(self, cls: type) -> str:
        module = sys.modules.get(cls.__module__)
        if not users_own_class(cls) and module is not None and _found(module, cls) is cls:
            return f"name {cls.__module__}.{cls.__qualname__}"
        if mark := self._numbers.get(id(cls)):
            return mark
        mark = self._number("class", cls)
        self._write(mark, _class_source(cls), *map(self.value, cls.__bases__))
        for name, member in sorted(vars(cls).items()):
            inner = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
            if isinstance(inner, types.FunctionType):
                self._write(mark, name, self._any_function(inner))
            elif isinstance(member, property):
                self._write(mark, name, *(self.value(part) for part in (member.fget, member.fset, member.fdel)))
            elif not name.startswith("__") and type(member) in _PLAIN:
                self._write(mark, name, self.value(member))
        return mark

    def _module(self, module: types.ModuleType) -> str:
        name = module.__name__
        if not is_users_own(module) or name == "__main__":
            return f"module {name}"
        if mark := self._numbers.get(id(module)):
            return mark
        mark = self._number("module", module)
        try:
            self._write(mark, name, inspect.getsource(module))
        except (OSError, TypeError):
            self._write(mark, name)
        for inner in sorted(vars(module)):
            if isinstance(vars(module)[inner], types.ModuleType):
                self._write(mark, inner, self._module(vars(module)[inner]))
        return mark

    def _container(self, value: Any) -> str | None:
        kind = type(value)
        if kind in (tuple, list):
            return f"{kind.__name__} [{', '.join(map(self.value, value))}]"
        if kind in (set, frozenset):
            return f"{kind.__name__} {{{', '.join(sorted(map(self.value, value)))}}}"
        if kind is dict:
            return f"dict {{{', '.join(f'{self.value(key)}: {self.value(value[key])}' for key in value)}}}"
        if isinstance(value, enum.Enum):
            return f"{self._class(kind)} {value.name}"
        if kind is bytearray:
            return f"bytearray {bytes(value)!r}"
        return None

    def _object(self, value: Any) -> str:
        """Whatever else: what pickle would make of it, but written in an order that does not change."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - it cannot be pickled; the one who packs it says so, and says it better
            return f"object of {_type_name(type(value))}"
        if isinstance(parts, str):
            return f"{_type_name(type(value))} {parts}"
        head = [self.value(part) for part in parts[:3]]
        items = [", ".join(map(self.value, part)) for part in parts[3:5] if part is not None]
        return f"{self.value(type(value))} ({', '.join(head + items)})"

    def _number(self, kind: str, thing: Any) -> str:
        self.alive.append(thing)
        mark = self._numbers[id(thing)] = f"{kind}#{len(self._numbers)}"
        return mark

    def _write(self, *words: str) -> None:
        self.lines.append(" | ".join(words))


def _may_change(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_may_change, value))
    return isinstance(value, _CONTAINERS)


def _found(module: types.ModuleType, thing: Any) -> Any:
    found: Any = module
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _annotations(function: types.FunctionType) -> Any:
    try:
        return dict(sorted(function.__annotations__.items()))
    except NameError:  # evaluated late, and naming what is not there yet
        return None


def _global_names(code: types.CodeType) -> set[str]:
    """The global names that code uses, also in the functions and classes inside it."""
    names = {step.argval for step in dis.get_instructions(code) if _NAMING.match(step.opname)}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


def _line_of(code: types.CodeType, name: str) -> int:
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        here = getattr(getattr(step, "positions", None), "lineno", None) or step.starts_line
        line = int(here) if here and here is not True else line
        if step.argval == name:
            return line
    return next((_line_of(one, name) for one in code.co_consts if _uses(one, name)), code.co_firstlineno)


def _uses(constant: object, name: str) -> bool:
    return isinstance(constant, types.CodeType) and (name in _global_names(constant) or name in constant.co_freevars)


# ── source ────────────────────────────────────────────────────────────────────────────────────────


def _source(code: types.CodeType) -> str:
    """The text of a function from its `def` on; decorators are a matter of who calls it. Without text: its code."""
    if code.co_name == "<lambda>":  # its lines may hold others
        return _code(code)
    try:
        text = textwrap.dedent("".join(inspect.getsourcelines(code)[0]))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):
        return _code(code)
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _code(code)
    return "".join(text.splitlines(keepends=True)[node.lineno - 1 :])


def _class_source(cls: type) -> str:
    try:
        return textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError, SyntaxError):
        return _type_name(cls)


def _code(code: types.CodeType) -> str:
    """What a piece of code does, without where it lies. Constants that are sets have no order of their own."""
    walk = _Walk()
    constants = [
        _code(constant) if isinstance(constant, types.CodeType) else walk.value(constant) for constant in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return f"{code.co_code.hex()} {names} {shape} [{', '.join(constants)}]"
