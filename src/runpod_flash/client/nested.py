"""Calls from inside workers: what the outermost program sends along, so that its functions can call one another there.

A worker cannot judge a function as a program can: it has no source files, no `.env`, other packages and variables. So
the program does it beforehand, for every remote function that the one it ships (or an argument) refers to, by value or
in a module that goes along. What it found is a *table*, a definition like others but with JSON in it: the key of a
function → how it is declared. The table lies beside the functions and not in them, because they may call each other in
circles, and each is named by the digest of its bytes.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from runpod_flash.client.classes import RemoteMethod
from runpod_flash.client.function import RemoteConfig, RemoteFunction, travelled
from runpod_flash.client.scope import function_name
from runpod_flash.errors import FlashError, UsageError, call_site
from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire.digest import digest_of
from runpod_flash.wire.messages import Declare

if TYPE_CHECKING:
    from runpod_flash.client.calls import Prepared

Handle = RemoteFunction[..., Any, Any]
Handles = dict[str, Handle]
"""Remote functions by their keys."""


class Table(msgspec.Struct):
    """What a definition with JSON in it says. `refused`: why a function could not be called from its program either."""

    functions: dict[str, Declare]
    refused: dict[str, str]


class _Met(threading.local):
    """The remote functions that were pickled in this thread since somebody took them."""

    def __init__(self) -> None:
        self.handles: Handles = {}


_MET: Final = _Met()
_table = msgspec.json.Decoder(Table)
_known: dict[str, Table] = {}


# ── in the program that calls first ───────────────────────────────────────────────────────────────


def by_value(handle: Handle) -> tuple[Any, ...]:
    """A remote function on its way to a worker: under its key, with which it is called from there."""
    key = handle.key or key_of(handle.__wrapped__, handle.__remote_config__)
    _MET.handles[key] = handle
    return travelled, (handle.__wrapped__, handle.__remote_config__, key)


codec.travels_as(RemoteFunction, by_value)


def key_of(function: Callable[..., Any], config: RemoteConfig) -> str:
    """What names a remote function in a table: its own name, and a digest of what `@remote` was told."""
    return f"{function_name(function)} {hashlib.sha256(repr(config).encode()).hexdigest()[:16]}"


def taken() -> Handles:
    """The remote functions that were pickled since this was asked last."""
    if not _MET.handles:
        return {}
    handles, _MET.handles = _MET.handles, {}
    return handles


def of_modules(names: Iterable[str]) -> Handles:
    """The remote functions of modules that travel as source: there they are made anew."""
    found: Handles = {}
    for name in names:
        module = sys.modules.get(name)
        for value in list(vars(module).values()) if module is not None else ():
            if isinstance(value, RemoteFunction):
                found[key_of(value.__wrapped__, value.__remote_config__)] = value
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
        table.functions[key] = prepared.declare
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


def declaration(handle: Handle) -> Declare:
    """How a function is declared that is called from here, as its program said."""
    if isinstance(handle, RemoteMethod):
        raise UsageError(
            f"{handle.__qualname__} cannot be called from a worker yet",
            where=call_site(),
            why="methods of remote classes are called from programs; from workers only functions are",
            fix="call it in your program and pass on what it gives, or write a remote function",
        )
    key = handle.key or key_of(handle.__wrapped__, handle.__remote_config__)
    for digest, table in _tables():
        if (found := table.functions.get(key)) is not None:
            # It may call others in turn, and those are in the same table.
            defs = [digest, *(one for one in found.function.defs if one != digest)]
            function = msgspec.structs.replace(found.function, defs=defs)
            return msgspec.structs.replace(found, function=function)
        if key in table.refused:
            raise UsageError(
                f"{handle.__name__} cannot be called from this worker",
                where=call_site(),
                why=f"the program that sent it could not make it ready:\n{table.refused[key]}",
            )
    raise UsageError(
        f"{handle.__name__} cannot be called from this worker",
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
