"""Values to bytes and back: protocol 5, large buffers beside the pickle, classes by definition.

An encoded value is a list of parts. The first is the pickle, the others are the contents of large arrays,
bytes and texts, which are therefore not copied here. Arguments are the value `(args, kwargs)`.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from runpod_flash.errors import EncodingError, RemoteError
from runpod_flash.payload import arrays, cloudpickle_private, libraries, stream
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire.blobs import megabytes
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.kinds import INLINE_LIMIT

_BESIDE: Final = 16 * 1024
"""A buffer from this size on is a part of its own; a smaller one is cheaper copied."""
_MOST_PARTS: Final = 500
_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_SHORT: Final = 1000
_FEW: Final = 16
_MOST: Final = 2 * _FEW

_Pickler: Any = None
"""The pickler; loading it loads cloudpickle, so the first value to be encoded does."""

OWN_WAYS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {}
"""Kind → how its objects are taken apart; see `travels_as`."""


class Encoded(NamedTuple):
    """A value as bytes. `defs` are the definitions it needs, each after what it needs itself."""

    parts: list[Buffer]
    defs: list[str]
    small: bool
    """Whether it is one part, which travels in its frame."""


_new = tuple.__new__  # what Encoded(…) does, without a Python function in between


def encode(value: Any, *, define: bool = True, named: Callable[[], Sequence[str]] | None = None) -> Encoded:
    """The value as parts; EncodingError says what in it cannot travel.

    `define` is False in a worker, which refers to classes that it was sent but sends none. `named` gives
    the names of the positional parameters, for the error about arguments.
    """
    if _is_simple(value):
        return _new(Encoded, ([pickle.dumps(value, 5)], [], True))
    beside: list[stream.Beside] = []
    written: list[Any] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _BESIDE or len(beside) >= _MOST_PARTS:
            return True  # into the pickle
        beside.append((len(written), raw))
        return False

    file = stream.Sink(written.append)
    try:
        pickler = _Pickler(file, 5, buffer_callback=keep)
    except TypeError:
        load_pickler()
        pickler = _Pickler(file, 5, buffer_callback=keep)
    try:
        if not define:
            pickler.define = False
        pickler.dump(value)
    except RemoteError:  # the value, or something in it, is the result of a job that failed: that is the error
        raise
    except Exception as error:
        raise _explained(value, error, define, named) from error
    # While the pickler is alive, which keeps alive what it has pickled.
    parts = written if len(written) == 1 and not beside else stream.parts(written, beside, _MOST_PARTS)
    used = pickler.__dict__.get("used")
    small = len(parts) == 1 and len(parts[0]) <= INLINE_LIMIT
    return Encoded(parts, TABLE.closure(used) if used else [], small)


def encode_simple(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded | None:
    """Arguments as `encode` has them, if they are a few numbers and short texts, which need no more than pickle."""
    if _are_simple(args) and (not kwargs or _are_simple(kwargs.values())):
        return _new(Encoded, ([pickle.dumps((args, kwargs), 5)], [], True))
    return None


def _is_simple(value: Any) -> bool:
    """Whether pickle alone writes the same: nothing in it is large, or of a kind that goes its own way."""
    kind = type(value)
    if kind is dict:
        return len(value) <= _FEW and _are_simple((*value, *value.values()))
    return _are_simple(value if kind is list or kind is tuple else (value,))


def _are_simple(values: Collection[Any]) -> bool:
    if len(values) > _MOST:
        return False
    for one in values:  # no `all`, which costs a generator
        kind = type(one)
        if kind not in _NUMBERS and (kind is not str or len(one) > _SHORT):
            return False
    return True


def decode(parts: Sequence[Buffer]) -> Any:
    """The value; MissingDefinition names a definition that has to be fetched first.

    Other errors are EncodingErrors with the original as their cause: a module that is not installed here,
    a class that refuses to be made.
    """
    try:
        if len(parts) == 1:
            return pickle.loads(parts[0])
        # What arrived in a frame is immutable bytes; an array made of those could not be written to.
        return pickle.loads(parts[0], buffers=[bytearray(part) if type(part) is bytes else part for part in parts[1:]])
    except EncodingError:
        raise
    except ModuleNotFoundError as error:
        if error.name == cloudpickle_private.NAME and cloudpickle_private.NAME not in sys.modules:
            cloudpickle_private.load()
            return decode(parts)
        if arrays.is_of_newer_numpy(error):
            return _from_newer_numpy(parts)
        raise _unreadable(error) from error
    except Exception as error:
        raise _unreadable(error) from error


def decode_value(parts: Sequence[Buffer]) -> Any:
    """The value of a job, also of one that came over HTTP: that is JSON text, which no pickle begins like."""
    first = parts[0]
    return decode(parts) if first[:1] == b"\x80" else json.loads(bytes(first))


def _from_newer_numpy(parts: Sequence[Buffer]) -> Any:
    """The same once more, where there is NumPy 1."""
    buffers = [bytearray(part) if type(part) is bytes else part for part in parts[1:]]
    try:
        return arrays.OlderNumpy(io.BytesIO(parts[0]), buffers=buffers).load()
    except EncodingError:
        raise
    except Exception as error:
        raise _unreadable(error) from error


def travels_as(kind: type, reduce: Callable[[Any], tuple[Any, ...]]) -> None:
    """Says how objects of `kind` go to a worker, where that is not how they go to other programs."""
    OWN_WAYS[kind] = reduce
    # Loaded by whoever came first, perhaps not by us; if it is being loaded, it will look at OWN_WAYS at the end.
    loaded: Any = getattr(sys.modules.get("runpod_flash.payload.pickler"), "Pickler", None)
    if loaded is not None:
        loaded.dispatch_table[kind] = reduce


def size(parts: Sequence[Buffer]) -> int:
    """Bytes of all parts together."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


def too_large(
    size: int, limit: int, arguments: tuple[Any, Any] | None = None, names: Sequence[str] = ()
) -> EncodingError:
    """The error for a value beyond the limit; of arguments it names the largest."""
    from runpod_flash.payload.explain import largest  # noqa: PLC0415 — only a failing call pays for it

    what, size = largest(*arguments, names) if arguments is not None else ("the result", size)
    together = "the arguments of a call together" if arguments is not None else "a result"
    return EncodingError(
        f"{what} is too large: {megabytes(size)}",
        why=f"{together} may have {megabytes(limit)} (FLASH_MAX_VALUE)",
        fix="put it where both sides can read it and pass its path or address, or work on it piece by piece;"
        " or set FLASH_MAX_VALUE (or max_value in [tool.flash]) higher",
    )


def load_pickler() -> None:
    """Loads what encoding needs, ahead of the first value."""
    global _Pickler
    from runpod_flash.payload import pickler  # noqa: PLC0415 — 20 ms that an import of us must not cost

    _Pickler = pickler.Pickler


def _explained(value: Any, error: Exception, define: bool, named: Callable[[], Sequence[str]] | None) -> EncodingError:
    from runpod_flash.payload.explain import explain  # noqa: PLC0415 — only a failing call pays for it

    return explain(value, error, define=define, names=named() if named else None)


def _unreadable(error: Exception) -> EncodingError:
    if explained := libraries.explain(error, at_the_caller=TABLE.prefer_local):
        return explained
    if isinstance(error, ModuleNotFoundError):
        return EncodingError(
            f"a value cannot be read here: it needs the module {error.name!r}, which is not installed",
            fix=f"add the package that provides {error.name!r} to dependencies=[…], or install it where this was read",
        )
    return EncodingError("a value cannot be read here", why=f"{type(error).__name__}: {error}")
