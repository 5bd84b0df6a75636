"""Why a value cannot travel: the path to what is in the way, and what to do instead.

Only used after pickling has failed, so it may take its time: it pickles the pieces of the value one by
one until it holds the smallest that fails.
"""

from __future__ import annotations

import io
import re
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec
from runpod_flash.payload.pickler import Pickler, refresh

_DEEPEST: Final = 20
_MOST_PIECES: Final = 10_000

Piece = tuple[str, Any]
"""Where in its container a value is (such as `[3]` or `.path`), and the value."""


class Obstacle(NamedTuple):
    """What in a value cannot be pickled."""

    path: str
    """Where in the value it is, such as `['log']`; "" for the value itself."""
    thing: str
    """What it is, in words and as it shows itself: `an open file (<…>)`."""
    mend: str
    why: str


def obstacle(value: Any) -> Obstacle | None:
    """What keeps `value` from travelling, or None if nothing does."""
    try:
        Pickler(io.BytesIO(), 5).dump(value)
    except RecursionError as error:
        return Obstacle("", "nested too deeply", "flatten it", _why(error))
    except Exception as error:  # noqa: BLE001 — whatever user code raises while it is pickled, that is the answer
        _, path, offender = _search(value, True, None)
        what, mend, _ = _kind(offender)
        return Obstacle(path, f"{what}{_shown(offender)}", mend, _why(error))
    return None


def explain(value: Any, error: Exception, *, define: bool, names: Sequence[str] | None) -> EncodingError:
    """The error to raise for `value`, whose pickling ended with `error`.

    With `names` the value is `(args, kwargs)`, and these are the names of the positional parameters.
    """
    refresh()
    if isinstance(error, RecursionError):
        return EncodingError(
            f"{'an argument' if names is not None else 'the value'} is nested too deeply to be pickled",
            fix="send it as a flat list, or raise sys.setrecursionlimit() here and in the function",
        )
    if isinstance(error, EncodingError):  # a failed JobOutput among the arguments, a class that says it itself
        return error
    start, path, offender = _search(value, define, names)
    where = f"{start}{path}"
    return EncodingError(f"{where} {_holds(offender, bool(path))}", why=_why(error), fix=_mend(offender))


def largest(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]) -> tuple[str, int]:
    """The argument that is largest, and its size in bytes."""
    sizes = [(label, codec.size(codec.encode(argument).parts)) for label, argument in _arguments(args, kwargs, names)]
    return max(sizes, key=lambda found: found[1])


def _search(value: Any, define: bool, names: Sequence[str] | None) -> tuple[str, str, Any]:
    start, current = "the value", value
    if names is not None:
        args, kwargs = value
        for label, argument in _arguments(args, kwargs, names):
            if _fails(argument, define):
                start, current = label, argument
                break
    path = ""
    seen = {id(current)}
    for _ in range(_DEEPEST):
        if _kind(current)[2]:
            break
        for step, piece in _pieces(current):
            if id(piece) not in seen and _fails(piece, define):
                seen.add(id(piece))
                path, current = path + step, piece
                break
        else:
            break
    return start, path, current


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]) -> Iterator[Piece]:
    for index, argument in enumerate(args):
        yield (f"argument {names[index]!r}" if index < len(names) else f"argument {index + 1}"), argument
    for name, argument in kwargs.items():
        yield f"argument {name!r}", argument


def _pieces(value: Any) -> Iterator[Piece]:
    for number, piece in enumerate(_all_pieces(value)):
        if number >= _MOST_PIECES:
            return
        yield piece


def _all_pieces(value: Any) -> Iterator[Piece]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
            yield f" key {key!r}", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield " (a member of a set)", item
    elif isinstance(value, types.FunctionType):
        yield from _pieces_of_function(value)
    elif isinstance(value, types.MethodType):
        yield " (its object)", value.__self__
        yield "", value.__func__
    elif isinstance(value, type):
        yield from _pieces_of_class(value)
    else:
        yield from _pieces_of_object(value)


def _pieces_of_class(cls: type) -> Iterator[Piece]:
    for name, item in list(vars(cls).items()):
        inner = getattr(item, "__func__", item)
        if name not in ("__dict__", "__weakref__"):
            yield f".{name}", inner.fget if isinstance(inner, property) else inner


def _pieces_of_object(value: Any) -> Iterator[Piece]:
    yield "", type(value)
    for name, item in list(getattr(value, "__dict__", {}).items()):
        yield f".{name}", item
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _pieces_of_function(function: types.FunctionType) -> Iterator[Piece]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" → {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in _global_names(code):
        if name in function.__globals__:
            yield f" → {name!r}", function.__globals__[name]
    for value in function.__defaults__ or ():
        yield " (a default)", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f" (the default of {name!r})", value
    for name, value in vars(function).items():
        yield f".{name}", value


def _global_names(code: types.CodeType) -> list[str]:
    names = dict.fromkeys(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names.update(dict.fromkeys(_global_names(const)))
    return list(names)


def _fails(value: Any, define: bool) -> bool:
    pickler = Pickler(io.BytesIO(), 5)
    pickler.define = define
    try:
        pickler.dump(value)
    except Exception:  # noqa: BLE001 — whatever user code raises while it is pickled, that is the answer
        return True
    return False


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def _holds(offender: Any, inside: bool) -> str:
    kind = _kind(offender)
    return f"{'holds' if inside or kind[2] else 'is'} {kind[0]}{_shown(offender)}"


def _mend(offender: Any) -> str:
    return _kind(offender)[1]


def _kind(offender: Any) -> tuple[str, str, bool]:
    """What it is, the mend, and whether one says that an argument *holds* it even if it is the argument."""
    for module, names, what, mend in _KINDS:
        found = sys.modules.get(module)
        kinds = tuple(kind for name in names if isinstance(kind := getattr(found, name, None), type))
        if kinds and isinstance(offender, kinds):
            return what, mend, True
    what = f"a {type(offender).__module__}.{type(offender).__qualname__}"
    return what, "make it inside the function, and pass what it is made from", False


_MAKE_IT: Final = "make it inside the function; it means nothing in another process"
_KINDS: Final = (
    ("io", ("IOBase",), "an open file", "pass its path or its contents, and open it inside the function"),
    ("socket", ("socket",), "a connection", "connect inside the function"),
    ("sqlite3", ("Connection", "Cursor"), "a database connection", "pass its path, and connect inside the function"),
    ("_thread", ("lock", "LockType", "RLock"), "a lock", _MAKE_IT),
    ("threading", ("Thread", "Event", "Condition", "Semaphore", "Barrier", "local"), "a threading object", _MAKE_IT),
    ("_queue", ("SimpleQueue",), "a queue", _MAKE_IT),
    ("types", ("GeneratorType", "AsyncGeneratorType"), "a generator", "pass what it yields: list(…)"),
    ("types", ("CoroutineType",), "a coroutine that nobody awaited", "await it first, and pass what it gives"),
    ("_asyncio", ("Future", "Task"), "a future", "await it first, and pass what it gives"),
    ("subprocess", ("Popen",), "a process", "start it inside the function"),
    ("types", ("ModuleType",), "a module", "import it inside the function"),
    ("types", ("FrameType", "TracebackType"), "a part of a running program", "pass its text instead"),
    ("_weakref", ("ReferenceType", "ProxyType"), "a weak reference", "pass the object itself"),
)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 — user code
        return ""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)
    return f" ({text if len(text) <= 120 else text[:117] + '…'})"


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
