"""Functions and remote classes for shipping: a definition each, with the source text that tracebacks will show."""

from __future__ import annotations

import functools
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


def pack_class(cls: type, modules: Iterable[ModuleSource] = ()) -> Packed:
    """Packs what makes instances of a remote class: a call of it, as it is now, constructs one."""
    for one in cls.__mro__:
        TABLE.redefine(one)  # what its methods use may be another than when it was defined last
    # By reference, so that instances that travel are of the same class as the one that lives in the worker.
    return pack_function(functools.partial(cls), modules=modules)


def pack_construction(of: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
    """The arguments of a constructor as a definition, sent once; its digest is the instance's key.

    `of` is the digest of the class: equal arguments of two classes, or of two versions of one, are two keys.
    """
    from runpod_flash.payload import pickler  # noqa: PLC0415 — loads cloudpickle: not at import

    body, needs, imports = pickler.definition_bytes(((of, args, kwargs),))
    digest = digest_of(body)
    TABLE.add(digest, body, needs, imports)
    return Packed(digest, TABLE.closure([digest]), len(body), frozenset(imports))


def load_construction(digest: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of a constructor, made anew: an instance may change what it was given."""
    try:
        ((_of, args, kwargs),) = TABLE.load(digest)
    finally:
        TABLE.forget(digest)
    return args, kwargs


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
    return function  # type: ignore[no-any-return]  # it is callable: that was just asked


def _explained(function: Callable[..., Any], error: Exception) -> EncodingError:
    from runpod_flash.payload.explain import explain  # noqa: PLC0415 — only a failing call pays for it

    thing = function.func if isinstance(function, functools.partial) else function
    name = getattr(thing, "__qualname__", repr(thing))
    found = explain(thing, error, define=True, names=None)
    found.what = found.what.replace("the value", f"{'class' if isinstance(thing, type) else 'function'} {name!r}", 1)
    return found
