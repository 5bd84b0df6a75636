"""The pickler: cloudpickle's, with classes by definition and exceptions that survive the trip.

What the C pickler does by itself (numbers, text, containers) never gets here, so plain arguments cost
what `pickle.dumps` costs. Importing this module loads the private cloudpickle (about 20 ms): do it late.
"""

from __future__ import annotations

import copyreg
import functools
import io
import linecache
import pickle
import sys
import types
import weakref
from collections.abc import Iterable
from functools import cached_property
from typing import Any, ClassVar, cast

from runpod_flash.payload import cloudpickle_private, codec
from runpod_flash.payload.arrays import reduce_array
from runpod_flash.payload.asserts import as_written
from runpod_flash.payload.definitions import TABLE, Sources, _definition, fill_module
from runpod_flash.payload.exceptions import reduce_exception
from runpod_flash.payload.libraries import with_note
from runpod_flash.payload.ownership import is_users_own, users_own_class
from runpod_flash.payload.stream import view_of
from runpod_flash.payload.type_names import REDUCERS
from runpod_flash.wire.digest import digest_of

_cloudpickle: Any = cloudpickle_private.load()
_cloudpickle._is_registered_pickle_by_value = is_users_own
_FunctionType, _BaseException = types.FunctionType, BaseException

Reduced = Any
"""What `reducer_override` returns: NotImplemented (as pickle does it) or a tuple."""

_by_name: dict[int, weakref.ref[Any]] = {}
"""id → what is known to be importable by its name at the other end."""


def _refuse_file(file: Any) -> Reduced:
    """Open files stay here: cloudpickle would send the text of the file instead, which is another thing."""
    if file is sys.stdout or file is sys.stderr:
        return getattr, (sys, "stdout" if file is sys.stdout else "stderr")
    raise pickle.PicklingError(f"cannot pickle the open file {file!r}")


def _reduce_view(view: memoryview) -> Reduced:
    """A view of memory, whose contents stand beside the pickle if they are large."""
    if len(view.format.lstrip("@")) > 1:
        raise pickle.PicklingError(f"cannot pickle a memoryview of items of format {view.format!r}")
    # Of another order the bytes are put in a row first.
    return view_of, (pickle.PickleBuffer(view if view.c_contiguous else view.tobytes()), view.format, view.shape)


def _reduce_module(module: types.ModuleType) -> Reduced:
    """One of the user's own modules travels by value, without what cannot travel (and is hardly meant to)."""
    if module.__name__ in sys.modules and not is_users_own(module):
        return _cloudpickle.subimport, (module.__name__,)
    state = {name: value for name, value in vars(module).items() if name not in _OF_THE_IMPORT and _travels(value)}
    # As state, not as an argument: functions in it may refer back to the module.
    return types.ModuleType, (module.__name__,), state, None, None, fill_module


_OF_THE_IMPORT = {"__builtins__", "__spec__", "__loader__", "__cached__"}
_SURELY = (type, types.FunctionType, types.ModuleType, str, int, float, bool, bytes, type(None))


def _travels(value: Any) -> bool:
    if isinstance(value, _SURELY):
        return True
    try:
        Pickler(io.BytesIO(), 5).dump(value)
    except Exception:  # noqa: BLE001 — whatever user code raises while it is pickled, that is the answer
        return False
    return True


def _reduce_cached(wrapper: Any) -> Reduced:
    """A function under `functools.cache`. Pickle would send its name, which means nothing where the module is not."""
    module = sys.modules.get(wrapper.__module__)
    if module is not None and not is_users_own(module):
        owner, _, name = wrapper.__qualname__.rpartition(".")
        method = getattr(getattr(module, owner, None), name, None)
        # On Python 3.11 a generic named tuple has one of `typing.Generic` itself.
        return (_inner, (method.__self__, name)) if isinstance(method, types.MethodType) else wrapper.__qualname__
    return _cached, (wrapper.__wrapped__, wrapper.cache_parameters())


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _inner(cls: type, name: str) -> Any:
    return getattr(cls, name).__func__


def _reduce_weak(container: Any) -> Reduced:
    """What it holds now. `functools.singledispatch` keeps such in each of its functions."""
    held = list(container) if isinstance(container, weakref.WeakSet) else dict(container)
    return type(container), (held,)


def _reduce_proxy(proxy: types.MappingProxyType[Any, Any]) -> Reduced:
    return types.MappingProxyType, (dict(proxy),)


_OWN_REDUCERS = {
    types.MappingProxyType: _reduce_proxy,
    weakref.WeakKeyDictionary: _reduce_weak,
    weakref.WeakValueDictionary: _reduce_weak,
    weakref.WeakSet: _reduce_weak,
    functools._lru_cache_wrapper: _reduce_cached,
    io.TextIOWrapper: _refuse_file,
    memoryview: _reduce_view,
    types.ModuleType: _reduce_module,
    **REDUCERS,
}


class Pickler(_cloudpickle.Pickler):  # type: ignore[misc]  # the base is loaded under a private name
    """Pickles one value; afterwards `used` holds the digests of the definitions that it refers to.

    Made as the C pickler is made, by its own constructor, because making one is half the cost of a small
    call; what differs is set afterwards: `define`, whether classes may become definitions here (the client
    can send their bytes along; a worker refers only to those that it was sent), `members`, classes to be
    pickled in full, and `sources`, where the source of functions is collected.
    """

    __init__ = pickle.Pickler.__init__
    dump = pickle.Pickler.dump
    # A dict: the ChainMap of cloudpickle costs a microsecond for each object.
    dispatch_table: ClassVar[dict[type, Any]] = {}
    proto = 5
    define = True
    members: tuple[type, ...] = ()
    sources: Sources | None = None

    @cached_property
    def used(self) -> dict[str, None]:
        """Digests that the pickle refers to, in the order in which they were met."""
        return {}

    @cached_property
    def globals_ref(self) -> dict[int, dict[str, Any]]:
        """cloudpickle's: functions of one module share their globals at the other end, too."""
        return {}

    def reducer_override(self, obj: Any) -> Reduced:
        """How to take `obj` apart; called for everything but exact builtin values."""
        kind = type(obj)
        if kind is _FunctionType:
            known = _by_name.get(id(obj))
            return NotImplemented if known is not None and known() is obj else self._function(obj)
        if issubclass(kind, type):
            return self._class(obj)
        if issubclass(kind, _BaseException):
            return reduce_exception(obj)
        if kind.__name__ == "ndarray" and kind.__module__ == "numpy":
            return reduce_array(obj)
        return NotImplemented

    def _function(self, function: types.FunctionType) -> Reduced:
        reduced = self._function_reduce(as_written(function))
        if reduced is NotImplemented:
            _by_name[id(function)] = weakref.ref(function)
        elif self.sources is not None:
            _collect_source(self.sources, function)
        return reduced

    def _class(self, cls: type) -> Reduced:
        known = TABLE.digest_by_id.get(id(cls))
        if known is not None and known[0]() is cls:
            return self._reference(cls, known[1])
        by_name = _by_name.get(id(cls))
        if by_name is not None and by_name() is cls:
            return NotImplemented
        if any(cls is member for member in self.members):
            return _in_full(cls)
        if self.define and users_own_class(cls):
            return self._reference(cls, _define(cls))
        reduced = _cloudpickle._class_reduce(cls)
        if reduced is NotImplemented:
            _by_name[id(cls)] = weakref.ref(cls)
        elif len(reduced) > 2:
            return with_note(cls, _complete(cls, reduced))
        return reduced

    def _reference(self, cls: type, digest: str) -> Reduced:
        self.used[digest] = None
        return _definition, (digest, cls.__module__, cls.__qualname__)


class DefinitionPickler(Pickler):
    """Pickles a definition; afterwards `imports` has the modules that reading it imports.

    A class of its own, so that arguments do not pay for the bookkeeping.
    """

    @cached_property
    def imports(self) -> set[str]:
        """Modules by whose names something is found again at the other end."""
        return set()

    def reducer_override(self, obj: Any) -> Reduced:
        """As for every pickle, and remembers what goes by name."""
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented:
            named = (obj.__name__,) if isinstance(obj, types.ModuleType) else (_module_of(obj), _module_of(type(obj)))
            self.imports.update(name for name in named if isinstance(name, str))
        return reduced


def _module_of(obj: Any) -> Any:
    return obj.__module__ if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)) else None


def refresh() -> None:
    """Learns the reducers that were registered with `copyreg` since, and forgets which names were importable."""
    _by_name.clear()
    theirs = {**copyreg.dispatch_table, **_cloudpickle.Pickler._dispatch_table}
    Pickler.dispatch_table.update({**theirs, **_OWN_REDUCERS, **codec.OWN_WAYS})


refresh()


def _in_full(cls: type) -> Reduced:
    make, arguments, *rest = _complete(cls, _cloudpickle._dynamic_class_reduce(cls))
    # The last but one is cloudpickle's random id, which a definition does not need: its digest names it.
    return with_note(cls, (make, (*arguments[:-2], None, arguments[-1]), *rest))


def _complete(cls: type, reduced: Reduced) -> Reduced:
    """What cloudpickle leaves out: what a class is nested in, and its slots (its instances would get a `__dict__`)."""
    make, arguments, (attributes, _slots), *_rest = reduced
    attributes["__qualname__"] = cls.__qualname__
    if make is _cloudpickle._make_skeleton_class and "__slots__" in vars(cls):
        arguments[3]["__slots__"] = vars(cls)["__slots__"]
    return reduced


def _collect_source(sources: Sources, function: types.FunctionType) -> None:
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    block = lines[code.co_firstlineno - 1 : _last_line(code)]
    if block:
        sources.setdefault(code.co_filename, {})[code.co_firstlineno] = block


def global_names(code: types.CodeType) -> Iterable[str]:
    """The names of the module that code reads or writes, also in what is defined inside it: those that travel."""
    return cast("Iterable[str]", _cloudpickle._extract_code_globals(code))


def _last_line(code: types.CodeType) -> int:
    own = (line for _start, _end, line in code.co_lines() if line)
    nested = (_last_line(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return max((*own, *nested), default=code.co_firstlineno)


# ── definitions ──────────────────────────────────────────────────────────────────────────────────


def definition_bytes(members: tuple[Any, ...], sources: Sources | None = None) -> tuple[bytes, list[str], set[str]]:
    """The body of a definition of `members` (the classes among them in full).

    With the digests that it refers to, and the modules that reading it imports.
    """
    file = io.BytesIO()
    pickler = DefinitionPickler(file, 5)
    pickler.members = tuple(member for member in members if isinstance(member, type))
    pickler.sources = {name: dict(blocks) for name, blocks in (sources or {}).items()}
    # The sources are pickled after the members, that is when they have been collected.
    pickler.dump((members, pickler.sources))
    return file.getvalue(), list(pickler.used), pickler.imports


class _Cycle(BaseException):
    """A class was met whose own definition is still being made, further out: `frame` there needs `group` here."""

    def __init__(self, frame: list[type], group: list[type]) -> None:
        self.frame = frame
        self.group = group


_frames: list[list[type]] = []
"""The definitions being made, the outermost first, each as its members; guarded by the lock of the table."""


def _define(cls: type) -> str:
    """Makes the definition of `cls`, together with the classes that need it while it needs them."""
    with TABLE.lock:
        known = TABLE.digest_by_id.get(id(cls))
        if known is not None and known[0]() is cls:
            return known[1]
        for depth, frame in enumerate(_frames):
            if any(cls is member for member in frame):
                raise _Cycle(frame, [member for inner in _frames[depth + 1 :] for member in inner])
        members = [cls]
        _frames.append(members)
        try:
            body, needs, imports = _definition_of_all(members)
        finally:
            _frames.pop()
        digest = digest_of(body)
        TABLE.add(digest, body, needs, imports)
        for member in members:
            TABLE.register(digest, member)
        return digest


def _definition_of_all(members: list[type]) -> tuple[bytes, list[str], set[str]]:
    while True:
        try:
            return definition_bytes(tuple(members))
        except _Cycle as cycle:
            if cycle.frame is not members:
                raise
            members.extend(cycle.group)
