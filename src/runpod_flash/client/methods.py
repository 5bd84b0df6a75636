"""Calls of methods: shipped as the class that they belong to, sent with the key of their instance."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import msgspec

from runpod_flash.client import nested, scope
from runpod_flash.client.calls import Caller, Prepared
from runpod_flash.client.classes import RemoteClass, RemoteInstance, RemoteMethod
from runpod_flash.client.direct import DirectCaller
from runpod_flash.errors import EncodingError, UsageError
from runpod_flash.payload import codec, functions
from runpod_flash.payload.functions import Packed
from runpod_flash.wire.blobs import megabytes

if TYPE_CHECKING:
    from runpod_flash.client.link import Link
    from runpod_flash.client.scope import Root

MOST_CONSTRUCTION: Final = 4 << 20
"""Bytes of a constructor's arguments. They are kept in the store and sent to every worker that makes an instance."""


class _OfInstance(Caller):
    """What calls of a method do otherwise than calls of a function."""

    def __init__(self, method: RemoteMethod) -> None:
        self._constructed: RemoteInstance = method.instance
        self._class = method.instance.__remote_class__
        self._method = method.__name__
        super().__init__(method)

    @property
    def _prepared(self) -> Prepared | None:
        """Of every handle of the class together: a thousand handles are declared once."""
        return self._class.__remote_prepared__.get(self._method)

    @_prepared.setter
    def _prepared(self, prepared: Prepared | None) -> None:
        if prepared is not None:
            self._class.__remote_prepared__[self._method] = prepared

    def _travelling(self) -> Root:
        return self._class.__wrapped__

    def _name(self) -> str:
        return f"{scope.function_name(self._class.__wrapped__)}.{self._method}"

    def _served(self) -> dict[str, Any]:
        return {}  # an HTTP request knows no instance

    def _is_async(self) -> bool:
        """Of all methods together: they share their workers, and so the number of calls these take at once."""
        return any(map(inspect.iscoroutinefunction, scope.methods_of(self._class.__wrapped__)))

    def _encode(self, link: Link, args: tuple[Any, ...], kwargs: dict[str, Any]) -> codec.Encoded:
        construction = self._construction(link)
        encoded = super()._encode(link, args, kwargs)
        self._instance = construction.digest
        return encoded._replace(defs=[*construction.defs, *encoded.defs])

    def _construction(self, link: Link) -> Packed:
        """The arguments of the constructor, packed by the first call of each version of the class."""
        assert self._prepared is not None
        version = self._prepared.declare.function.digest
        known = self._constructed.__remote_constructions__
        if version not in known:
            packed = self._pack(version)
            if handles := nested.met_in(packed.defs):
                packed = packed._replace(defs=nested.merged(packed.defs, self._table(link, handles)))
            known[version] = packed
        return known[version]

    def _pack(self, version: str) -> Packed:
        name = self._class.__wrapped__.__name__
        try:
            packed = functions.pack_construction(version, *self._constructed.__remote_args__)
        except EncodingError:
            raise
        except Exception as error:
            from runpod_flash.payload.explain import explain  # noqa: PLC0415 - only a failing call pays for it

            found = explain(self._constructed.__remote_args__, error, define=True, names=self._constructor_names())
            found.what = f"{name}(…): {found.what}"
            found.where = self._where
            raise found from error
        if packed.size > MOST_CONSTRUCTION:
            raise EncodingError(
                f"the arguments of {name}(…) are too large: {megabytes(packed.size)}",
                where=self._where,
                why=f"those of a constructor may have {megabytes(MOST_CONSTRUCTION)}: they go to every worker that "
                "makes an instance",
                fix="pass a path or a name and load it in __init__, or hand it to a method",
            )
        return packed

    def _constructor_names(self) -> tuple[str, ...]:
        code = getattr(vars(self._class.__wrapped__).get("__init__"), "__code__", None)
        return code.co_varnames[1 : code.co_argcount] if code is not None else ()

    def _parameters(self) -> tuple[str, ...]:
        names = super()._parameters()
        static = isinstance(inspect.getattr_static(self._class.__wrapped__, self._method), staticmethod)
        return names if static else names[1:]


class _QueueCaller(_OfInstance, Caller):
    """Calls one method of one handle, on a queue."""


class _DirectCaller(_OfInstance, DirectCaller):
    """Calls one method of one handle, load-balanced."""


def caller_of(method: RemoteMethod) -> Caller:
    """What calls a method of a handle."""
    return _QueueCaller(method) if method.__remote_config__.resource.is_queue else _DirectCaller(method)


def judged(cls: RemoteClass, link: Link) -> tuple[Prepared, nested.Handles]:
    """A class alone, declared under its own name, and what is remote that it refers to (see `Caller.judged`)."""
    instance = cls()
    names = dir(instance)
    name = scope.function_name(cls.__wrapped__)
    if not names:
        raise UsageError(
            f"{name} has no public methods",
            where=scope.location(cls.__wrapped__) or None,
            why="its methods are what can be called, but for those whose name begins with _",
            fix="give it a method",
        )
    prepared, handles = caller_of(getattr(instance, names[0])).judged(link)
    declare = prepared.shipped
    function = msgspec.structs.replace(declare.function, name=name, where=scope.location(cls.__wrapped__))
    prepared.declare = msgspec.structs.replace(declare, function=function)
    return prepared, handles
