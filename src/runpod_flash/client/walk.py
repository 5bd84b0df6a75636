"""The walk from a function through all that it reaches by value, written down as text.

The *version* of a function is a hash of these lines: of source text and of a canonical form of what is captured, so it
is the same in every process that runs the same program; the bytes that pickle makes are not (sets, shared tuples).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from runpod_flash.client.captures import MISSING, Capture, contents, may_change, too_large
from runpod_flash.client.classes import RemoteClass, RemoteInstance
from runpod_flash.client.function import RemoteFunction
from runpod_flash.client.source import class_text, source_of
from runpod_flash.payload.ownership import is_users_own, users_own_class
from runpod_flash.payload.pickler import global_names

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
_LONG: Final = 4096


def canonical(value: Any) -> str:
    """Text that is equal for equal values, in every process."""
    return Walk().value(value)


Way = Literal["called", "member", "elsewhere"]
"""How a function was met: by a name in another, as a method of a class, or behind another remote function."""


class Met(NamedTuple):
    """A function of the user's that travels by value."""

    function: types.FunctionType
    way: Way


class Walk:
    """Collects lines that say all there is to say about a function."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.captures: list[Capture] = []
        self.functions: list[Met] = []
        self.modules: list[types.ModuleType] = []
        self.alive: list[Any] = []
        self._numbers: dict[int, str] = {}  # of functions, classes and modules that were met
        self._open: set[int] = set()  # containers being written: a list may contain itself
        self._way: Way = "called"
        self._roots: frozenset[type] = frozenset()

    def root(self, cls: type) -> None:
        """Starts from a remote class: its methods, and those of the user's that it inherits, are what is called."""
        self._roots = frozenset(cls.__mro__)
        self.value(cls)

    def function(self, function: types.FunctionType) -> str:
        """The text that stands for a function where it is met; its own lines come once."""
        if mark := self._numbers.get(id(function)):
            return mark
        mark = self._number("def", function)
        self.functions.append(Met(function, self._way))
        self._write(mark, source_of(function.__code__).text or _code(function.__code__))
        self._write(mark, "defaults", self.value(function.__defaults__), self.value(function.__kwdefaults__))
        self._write(mark, "annotations", self.value(_annotations(function)))
        for name in sorted(global_names(function.__code__)):
            # pytest's own names, in what it makes of `assert`, are none that could be written; they stay here.
            if name in function.__globals__ and name.isidentifier():
                self._capture(mark, name, function.__globals__[name], function, function.__globals__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if (value := contents(cell)) is not MISSING:
                self._capture(mark, name, value, function, cell)
        return mark

    def _capture(
        self,
        mark: str,
        name: str,
        value: Any,
        owner: types.FunctionType,
        namespace: Mapping[str, Any] | types.CellType,
    ) -> None:
        large = too_large(value)  # refused soon; going through it would only take time
        content = canonical(value) if may_change(value) and not large else None
        self.captures.append(Capture(name, value, owner, namespace, content))
        self._write(mark, name, "too large" if large else self.value(value))

    def value(self, value: Any) -> str:
        """The text that stands for any value."""
        kind = type(value)
        if kind in _PLAIN:
            return _plain(value)
        if kind is types.FunctionType:
            return self._any_function(value)
        if isinstance(value, type):
            return self._class(value)
        if kind is types.ModuleType:
            return self._module(value)
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        way = self._way
        try:
            if isinstance(value, (RemoteFunction, RemoteClass, RemoteInstance)):
                self._way = "elsewhere"
            return self._container(value) or self._object(value)
        except RecursionError:
            return f"deep {_type_name(kind)}"
        finally:
            self._way = way
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
        way = self._way
        if way != "elsewhere":
            self._way = "called" if cls in self._roots else "member"
        self._write(mark, class_text(cls) or _type_name(cls), *map(self.value, cls.__bases__))
        for name, member in sorted(vars(cls).items()):
            inner = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
            if isinstance(inner, types.FunctionType):
                self._write(mark, name, self._any_function(inner))
            elif isinstance(member, property):
                self._write(mark, name, *(self.value(part) for part in (member.fget, member.fset, member.fdel)))
            elif not name.startswith("__") and type(member) in _PLAIN:
                self._write(mark, name, self.value(member))
        self._way = way
        return mark

    def _module(self, module: types.ModuleType) -> str:
        name = module.__name__
        if not is_users_own(module) or name == "__main__":
            return f"module {name}"
        if mark := self._numbers.get(id(module)):
            return mark
        mark = self._number("module", module)
        self.modules.append(module)
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
            return f"bytearray {_plain(bytes(value))}"
        if kind is functools._lru_cache_wrapper and isinstance(value.__wrapped__, types.FunctionType):
            return f"cached {sorted(value.cache_parameters().items())} {self._any_function(value.__wrapped__)}"
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


def _found(module: types.ModuleType, thing: Any) -> Any:
    found: Any = module
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _plain(value: Any) -> str:
    if isinstance(value, (str, bytes)) and len(value) > _LONG:
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        return f"{type(value).__name__} {len(data)} {hashlib.sha256(data).hexdigest()}"
    return f"{type(value).__name__} {value!r}"


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _annotations(function: types.FunctionType) -> Any:
    try:
        return dict(sorted(function.__annotations__.items()))
    except NameError:  # evaluated late, and naming what is not there yet
        return None


def _code(code: types.CodeType) -> str:
    """What a piece of code does, without where it lies. Constants that are sets have no order of their own."""
    walk = Walk()
    constants = [
        _code(constant) if isinstance(constant, types.CodeType) else walk.value(constant) for constant in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return f"{code.co_code.hex()} {names} {shape} [{', '.join(constants)}]"
