"""Functions for shipping: a definition each, with the source text that tracebacks will show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from runpod_flash.errors import EncodingError
from runpod_flash.payload.definitions import TABLE, Sources
from runpod_flash.payload.modules import SHIPPED, ModuleSource, pack_modules
from runpod_flash.wire.digest import digest_of


class Packed(NamedTuple):
    """A function as a definition. `defs` are the digests that loading it needs, its own last."""

    digest: str
    defs: list[str]
    size: int
    imports: frozenset[str]
    """Modules that loading it imports: they must be where it runs."""


def pack_function(
    function: Callable[..., Any], sources: Sources | None = None, modules: Iterable[ModuleSource] = ()
) -> Packed:
    """Pickles the function and all that it reaches by value, as it is now; the bytes are in the table.

    The source lines of what travels by value go along; `sources` adds others. `modules` will be importable where it
    runs. EncodingError names what the function uses that cannot travel.
    """
    from runpod_flash.payload import pickler  # noqa: PLC0415 — loads cloudpickle: not at import

    try:
        brought = pack_modules(modules)
        # The modules first: classes that are read with the function are then found in them.
        members = (brought, function) if brought.digests else (function,)
        body, needs, imports = pickler.definition_bytes(members, sources)
    except Exception as error:
        raise _explained(function, error) from error
    digest = digest_of(body)
    TABLE.add(digest, body, [*brought.digests.values(), *needs], imports)
    defs = TABLE.closure([digest])
    return Packed(digest, defs, len(body), frozenset(TABLE.imports(defs)))


def load_function(digest: str) -> Callable[..., Any]:
    """The function behind `digest`, made anew unless it is loaded; its definitions must be in the table."""
    *brought, function = TABLE.load(digest)
    if brought and brought[0] is not None:
        SHIPPED.belongs(digest, brought[0])
    if not callable(function):
        raise EncodingError(
            f"the definition {digest} is no function",
            why=f"it is a {type(function).__name__}, sent by a program of another version",
        )
    return function  # type: ignore[no-any-return]


def _explained(function: Callable[..., Any], error: Exception) -> EncodingError:
    from runpod_flash.payload.explain import explain  # noqa: PLC0415 — only a failing call pays for it

    name = getattr(function, "__qualname__", repr(function))
    found = explain(function, error, define=True, names=None)
    found.what = found.what.replace("the value", f"function {name!r}", 1)
    return found
