"""Calls from inside workers: what the outermost program sends along, so that its functions can call one another there.

A worker cannot judge a function as a program can: it has no source files, no `.env`, other packages and variables. So
the program does it beforehand, for every remote function that the one it ships (or an argument) refers to, by value or
in a module that goes along. What it found is a *table*, a definition like others but with JSON in it: the key of a
function → how it is declared. The table lies beside the functions and not in them, because they may call each other in
circles, and each is named by the digest of its bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from runpod_flash.client.classes import RemoteClass, RemoteInstance, RemoteMethod
from runpod_flash.client.function import RemoteFunction, travelled, yields
from runpod_flash.client.scope import function_name, location
from runpod_flash.errors import FlashError, UsageError, call_site
from runpod_flash.model.endpoint import normalise_packages, normalise_requirements
from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire.digest import digest_of
from runpod_flash.wire.messages import Declare

if TYPE_CHECKING:
    from runpod_flash.client.calls import Prepared

Handle = RemoteFunction[..., Any, Any] | RemoteClass
Handles = dict[str, Handle]
"""Remote functions and classes by their keys."""


class Table(msgspec.Struct):
    """What a definition with JSON in it says. `refused`: why a function could not be called from its program either.

    A class is declared once, under its own name; in a worker its methods are called by theirs.
    """

    functions: dict[str, Declare]
    refused: dict[str, str]


class _Met(threading.local):
    """What is remote and was pickled in this thread since somebody took it."""

    def __init__(self) -> None:
        self.handles: Handles = {}


_MET: Final = _Met()
_within: Final[dict[str, Handles]] = {}
"""By the digest of a definition: what is remote and was met when it was made, or beside it. It is made once only."""
_made: Final[dict[str, Declare]] = {}
"""In a worker: what was declared anew there, by its key."""
_table = msgspec.json.Decoder(Table)
_known: dict[str, Table] = {}


# ── in the program that calls first ───────────────────────────────────────────────────────────────


def _function_by_value(handle: RemoteFunction[..., Any, Any]) -> tuple[Any, ...]:
    """A remote function on its way to a worker: under its key, with which it is called from there."""
    return travelled, (handle.__wrapped__, handle.__remote_config__, _met(handle.key, handle))


def _class_by_value(handle: RemoteClass) -> tuple[Any, ...]:
    return RemoteClass, (handle.__wrapped__, handle.__remote_config__, _met(handle.__remote_key__, handle))


def _met(key: str, handle: Handle) -> str:
    key = key or key_of(handle)
    _MET.handles[key] = handle
    return key


codec.travels_as(RemoteFunction, _function_by_value)
codec.travels_as(RemoteClass, _class_by_value)


def key_of(handle: Handle) -> str:
    """What names a remote function or class in a table: its own name, and a digest of what `@remote` was told."""
    told = hashlib.sha256(repr(handle.__remote_config__).encode()).hexdigest()[:16]
    return f"{function_name(handle.__wrapped__)} {told}"


def forget_met() -> None:
    """What is asked for next was pickled after this."""
    _MET.handles = {}


def any_met() -> bool:
    """Whether anything remote was pickled since this was asked for last."""
    return bool(_MET.handles)


def met_in(defs: Iterable[str]) -> Handles:
    """What is remote in what was pickled just now, and in these definitions, which may be of an earlier time."""
    handles, _MET.handles = _MET.handles, {}
    found = dict(handles)
    for digest in defs:
        found |= _within.setdefault(digest, handles)
    return found


def of_modules(names: Iterable[str]) -> Handles:
    """What is remote in modules that travel as source: there it is made anew."""
    found: Handles = {}
    for name in names:
        module = sys.modules.get(name)
        for value in list(vars(module).values()) if module is not None else ():
            handle = value.__remote_class__ if isinstance(value, RemoteInstance) else value
            if isinstance(handle, (RemoteFunction, RemoteClass)):
                found[key_of(handle)] = handle
    return found


def table_of(handles: Handles, judged: Callable[[Handle], tuple[Prepared, Handles]]) -> list[str]:
    """The definitions with which these functions can be called, and those that they call: theirs, and a table.

    `judged` says how one is declared; one that cannot be is refused when it is called, if it ever is.
    """
    table = Table({}, {})
    found, ahead = dict(handles), list(handles.items())
    while ahead:
        key, handle = ahead.pop()
        if handle.__remote_config__.local:
            continue
        try:
            prepared, more = judged(handle)
        except FlashError as error:
            table.refused[key] = str(error)
            continue
        table.functions[key] = prepared.shipped
        ahead += [item for item in more.items() if item[0] not in found]
        found |= more
    return [*_needs(table), _defined(table)] if table.functions or table.refused else []


def _defined(table: Table) -> str:
    body = msgspec.json.encode(table)
    digest = digest_of(body)
    TABLE.add(digest, body, ())
    return digest


def _needs(table: Table) -> list[str]:
    return list(dict.fromkeys(need for declare in table.functions.values() for need in declare.function.defs))


# ── in a worker ───────────────────────────────────────────────────────────────────────────────────


def was_told(handle: RemoteFunction[..., Any, Any]) -> bool:
    """Whether this worker was told how to call it, or why it cannot."""
    owner: Handle = handle.instance.__remote_class__ if isinstance(handle, RemoteMethod) else handle
    known = owner.__remote_key__ if isinstance(owner, RemoteClass) else owner.key
    key = known or key_of(owner)
    return any(key in table.functions or key in table.refused for _digest, table in _tables())


def declaration(handle: RemoteFunction[..., Any, Any]) -> Declare:
    """How a function or method is declared that is called from here, as its program said."""
    if isinstance(handle, RemoteMethod):
        owner = handle.instance.__remote_class__
        found = _found(owner, owner.__remote_key__)
        name = f"{found.function.name}.{handle.__name__}"
        function = msgspec.structs.replace(
            found.function,
            name=name,
            where=location(handle.__wrapped__),
            is_async=inspect.iscoroutinefunction(handle.__wrapped__) or yields(handle.__wrapped__),
        )
        return msgspec.structs.replace(found, function=function)
    return _found(handle, handle.key)


AnyHandle = TypeVar("AnyHandle", bound=Handle)


def with_packages(
    handle: AnyHandle, requirements: Iterable[str], system: Iterable[str], *, accelerate: bool = False
) -> AnyHandle:
    """In a worker: the same function or class on workers that have these packages as well, and not over HTTP."""
    key = (handle.__remote_key__ if isinstance(handle, RemoteClass) else handle.key) or key_of(handle)
    known = _found(handle, key)
    pool = dataclasses.replace(
        known.pool,
        requirements=normalise_requirements((*known.pool.requirements, *requirements)),
        system=normalise_packages((*known.pool.system, *system)),
        accelerate=accelerate,
    )
    key = f"{key} with {pool.environment_key()}"
    function = msgspec.structs.replace(known.function, routes=[], takes_json=False, schema="")
    _made[key] = msgspec.structs.replace(known, pool=pool, function=function)
    config = handle.__remote_config__
    other: Handle = (
        RemoteClass(handle.__wrapped__, config, key)
        if isinstance(handle, RemoteClass)
        else travelled(handle.__wrapped__, config, key)
    )
    return other  # type: ignore[return-value]  # of the kind that came in


def _found(handle: Handle, key: str) -> Declare:
    key = key or key_of(handle)
    if key in _made:
        return _made[key]
    name = handle.__wrapped__.__name__
    for digest, table in _tables():
        if (found := table.functions.get(key)) is not None:
            # It may call others in turn, and those are in the same table.
            defs = [digest, *(one for one in found.function.defs if one != digest)]
            function = msgspec.structs.replace(found.function, defs=defs)
            return msgspec.structs.replace(found, function=function)
        if key in table.refused:
            raise UsageError(
                f"{name} cannot be called from this worker",
                where=call_site(),
                why=f"the program that sent it could not make it ready:\n{table.refused[key]}",
            )
    raise UsageError(
        f"{name} cannot be called from this worker",
        where=call_site(),
        why="its program did not send it along: it was made or changed here, by @remote or with_options, and what a "
        "call needs (source, packages, variables) is only known there",
        fix="decorate it in your program, and refer to it by name in the function that calls it",
    )


def tables_with(handles: Handles) -> list[str]:
    """The definitions with which these functions, which came here, can be called from yet another worker."""
    needs: dict[str, None] = {}
    for digest, table in _tables():
        if any(key in table.functions or key in table.refused for key in handles):
            needs |= dict.fromkeys([*_needs(table), digest])
    return list(needs)


def _tables() -> Iterable[tuple[str, Table]]:
    """Those that came, the latest first."""
    for digest, body in TABLE.texts():
        if digest not in _known:
            _known[digest] = _table.decode(body)
        yield digest, _known[digest]


def merged(defs: Iterable[str], more: Iterable[str]) -> list[str]:
    """Both lists of definitions as one, those of `defs` last and in their order."""
    own = list(defs)
    return [*(one for one in more if one not in own), *own]
