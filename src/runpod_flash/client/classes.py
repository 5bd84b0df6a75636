"""Remote classes: what `@remote` leaves in the place of a class, the handles that it constructs, and their methods.

Light, as `function.py` is. A handle holds the arguments of the constructor and nothing else: the instance is made in a
worker, by the first call that gets there.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, cast

from runpod_flash.client.function import RemoteConfig, RemoteFunction, check_worker, config_with
from runpod_flash.errors import UsageError, call_site, did_you_mean

if TYPE_CHECKING:
    from runpod_flash.client.calls import Caller, Prepared
    from runpod_flash.payload.functions import Packed

_ABSENT: Final = object()


class _Unreachable(UsageError, AttributeError):
    """An attribute of a handle that is no method. Also an AttributeError, so `hasattr` and `getattr` work as ever."""


class RemoteClass:
    """A class whose instances live in workers. Calling it gives a handle at once; nothing is sent."""

    __wrapped__: type

    def __init__(self, cls: type, config: RemoteConfig, key: str = "") -> None:
        functools.update_wrapper(self, cls, updated=())
        # Names that no attribute of the user's class has.
        self.__remote_config__ = config
        self.__remote_key__ = key
        """In a worker: what its program calls it (see client.nested)."""
        self.__remote_prepared__: dict[str, Prepared] = {}
        """What is known of each method's shipping; every handle of the class shares it."""

    def __repr__(self) -> str:
        resource = self.__remote_config__.resource
        return f"<remote class {self.__wrapped__.__qualname__} on {type(resource).__name__} {resource.name!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> RemoteInstance:
        """A handle of the instance that these arguments stand for."""
        return RemoteInstance(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        """Class attributes, class methods and static methods of the class itself: here, as of any class."""
        if name == "__wrapped__":  # not there yet: it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type]:
        """A subclass inherits from the class itself, and runs here until it is decorated too."""
        return (self.__wrapped__,)

    def __instancecheck__(self, thing: object) -> bool:
        cls = thing.__remote_class__.__wrapped__ if isinstance(thing, RemoteInstance) else type(thing)
        return issubclass(cls, self.__wrapped__)

    def with_options(self, **options: Any) -> RemoteClass:
        """The same class with other options, as with functions."""
        config = config_with(self.__remote_config__, options)
        same = config.resource is self.__remote_config__.resource
        return RemoteClass(self.__wrapped__, config, self.__remote_key__ if same else "")

    def __reduce__(self) -> str | tuple[Any, ...]:
        """To another process of this program under its name, as any class."""
        found: Any = sys.modules.get(self.__wrapped__.__module__)
        for part in self.__wrapped__.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self:
            return str(self.__wrapped__.__qualname__)
        return RemoteClass, (self.__wrapped__, self.__remote_config__, self.__remote_key__)


class RemoteInstance:
    """A handle: its public methods are remote functions, which run where the instance lives.

    Handles of equal constructor arguments are handles of one instance.
    """

    # What a handle has of its own is written so that no method of the user's can be meant.
    __slots__ = ("__remote_args__", "__remote_class__", "__remote_constructions__", "__remote_methods__", "__weakref__")
    __remote_class__: RemoteClass
    __remote_args__: tuple[tuple[Any, ...], dict[str, Any]]
    __remote_constructions__: dict[str, Packed]
    __remote_methods__: dict[str, Any]

    def __init__(self, cls: RemoteClass, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        put = functools.partial(object.__setattr__, self)
        put("__remote_class__", cls)
        put("__remote_args__", (args, kwargs))
        put("__remote_constructions__", {})  # by digest of the class: its arguments, packed
        put("__remote_methods__", {})

    def __repr__(self) -> str:
        args, kwargs = self.__remote_args__
        shown = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        return f"<remote {self.__remote_class__.__wrapped__.__qualname__}({shown[:80]})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteInstance, (self.__remote_class__, *self.__remote_args__)

    def __getattr__(self, name: str) -> RemoteMethod:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        methods = self.__remote_methods__
        if (method := methods.get(name)) is None:
            method = methods[name] = RemoteMethod(self, name, self.__remote_class__.__remote_config__)
        return cast("RemoteMethod", method)

    def __setattr__(self, name: str, value: object) -> None:
        raise _Unreachable(
            f"{name} cannot be set on a handle of {self.__remote_class__.__wrapped__.__name__}",
            where=call_site(),
            why="the instance lives in a worker; a handle holds nothing of it",
            fix=f"write a method that sets it: async def set_{name}(self, value): self.{name} = value",
        )

    def __dir__(self) -> list[str]:
        cls = self.__remote_class__.__wrapped__
        return [name for name in dir(cls) if not name.startswith("_") and _function_of(cls, name) is not None]


class RemoteMethod(RemoteFunction[..., Any, Any]):
    """A method of a handle, with all the verbs of a remote function."""

    def __init__(self, instance: RemoteInstance, name: str, config: RemoteConfig) -> None:
        cls = instance.__remote_class__.__wrapped__
        super().__init__(_method(cls, name), config)
        self.__name__ = name
        self.instance = instance
        self._owner = functools.partial(_made_here, instance)

    def __repr__(self) -> str:
        return f"<remote method {self.__name__} of {self.instance!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteMethod, (self.instance, self.__name__, self.__remote_config__)

    by_value = __reduce__

    def with_options(self, **options: Any) -> RemoteMethod:
        """The same method with another timeout, max_retries, ttl, priority or delay."""
        config = config_with(self.__remote_config__, dict(options))
        if config.resource != self.__remote_config__.resource:
            name = self.instance.__remote_class__.__wrapped__.__name__
            raise UsageError(
                f"{self.__qualname__} cannot have a resource other than its instance's",
                where=call_site(),
                why="the methods of an instance run where it lives",
                fix=f"give the whole class other options: {name}.with_options(…)(…)",
            )
        return RemoteMethod(self.instance, self.__name__, config)

    def caller(self) -> Caller:
        """Who makes its calls; made with the first of them."""
        if self._caller_made is None:
            check_worker()
            from runpod_flash.client.methods import caller_of  # noqa: PLC0415 - loads what talks to an engine

            self._caller_made = caller_of(self)
        return self._caller_made


def _made_here(instance: RemoteInstance) -> Any:
    """The instance for calls in this process, constructed by the first of them."""
    methods = instance.__remote_methods__
    if (made := methods.get("")) is None:
        args, kwargs = instance.__remote_args__
        made = methods[""] = instance.__remote_class__.__wrapped__(*args, **kwargs)
    return made


# ── what may be called ────────────────────────────────────────────────────────────────────────────


def _function_of(cls: type, name: str) -> Callable[..., Any] | None:
    """The function behind a method of any kind; None for what is no method."""
    member = inspect.getattr_static(cls, name, _ABSENT)
    member = getattr(member, "__func__", member)  # of class methods and static methods
    if isinstance(member, FunctionType):
        return member
    inner = inspect.unwrap(member) if callable(member) and not isinstance(member, (type, RemoteFunction)) else None
    return inner if isinstance(inner, FunctionType) else None


def _method(cls: type, name: str) -> Callable[..., Any]:
    """The function of a method that may be called; _Unreachable says why another attribute may not."""
    function = _function_of(cls, name)
    if name.startswith("_"):
        what, why, fix = "is private", "only public methods can be called from outside", "give it a public name"
    elif function is not None:
        return function
    elif (member := inspect.getattr_static(cls, name, _ABSENT)) is _ABSENT:
        known = [one for one in dir(cls) if not one.startswith("_") and _function_of(cls, one) is not None]
        what = f"is no method.{did_you_mean(name, known)}"
        why = "what __init__ sets lives with the instance, in a worker; a handle has methods"
        fix = f"write a method that returns it: async def get_{name}(self): return self.{name}"
    elif isinstance(member, RemoteFunction):
        what, why = "is a remote function", "the methods of a remote class are remote already"
        fix = "leave out the @remote of the method"
    elif isinstance(member, (property, functools.cached_property)):
        what, why = "is a property", "a property would have to answer without being awaited, and its value is elsewhere"
        fix = f"make it a method: async def {name}(self)"
    else:
        what, why = "is no method", "the value of an attribute may be another where the instance lives"
        fix = f"read that of the class ({cls.__name__}.{name}), or write a method that returns the instance's"
    raise _Unreachable(f"{cls.__name__}.{name} {what}", where=call_site(), why=why, fix=fix)
