"""A remote function: the handle that `@remote` leaves in the place of a function, and what it can do.

It is light, because every import of the user's program makes it. What talks to an engine is loaded by the first call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, cast, overload

from runpod_flash.errors import ConfigError, UsageError, call_site, did_you_mean, shown
from runpod_flash.model.job import USUAL_POLICY, JobPolicy, check_policy
from runpod_flash.model.resolve import merge_env, seconds_to_ms
from runpod_flash.model.resources import Resource
from runpod_flash.model.value import is_duration
from runpod_flash.wire import door

if TYPE_CHECKING:
    from runpod_flash.client.calls import Caller
    from runpod_flash.client.job import JobHandle

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

IN_FLIGHT: Final = 256
"""Calls that `map` has under way at most, unless it is told otherwise."""
_LEAST_MSGSPEC: Final = (0, 18)
_POLICY_OPTIONS: Final = ("timeout", "max_retries", "ttl", "priority", "delay")


@dataclass(frozen=True)
class RemoteConfig:
    """What `@remote` was told, checked."""

    resource: Resource
    requirements: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    accelerate_downloads: bool = False
    env: dict[str, str | None] = field(default_factory=dict)  # of the decorator alone
    policy: JobPolicy = USUAL_POLICY
    local: bool = False
    method: str | None = None
    path: str | None = None

    def variables(self) -> dict[str, str | None]:
        """Everything that goes into the worker's environment; None stands for the caller's own value."""
        return merge_env(self.resource, self.env)


class RemoteFunction(Generic[P, R, T]):
    """A function that runs elsewhere. Calling it gives an awaitable, always; for blocking callers there is `.sync`."""

    # What functools.wraps copies, for type checkers.
    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, Any]

    _owner: Callable[[], object] | None = None
    """Makes the object whose method it is, for calls in this process."""

    def __init__(self, function: Callable[P, Any], config: RemoteConfig) -> None:
        functools.update_wrapper(self, function)
        self.__remote_config__ = config
        self.key = ""  # in a worker: what its program calls it (see client.nested)
        self._caller_made: Caller | None = None

    def __repr__(self) -> str:
        resource = self.__remote_config__.resource
        return f"<remote function {self.__qualname__} on {type(resource).__name__} {resource.name!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Go to another process of this program (multiprocessing) under its name, as any function does."""
        name = self.__qualname__
        original: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            original = getattr(original, part, None)
        if original is self:
            return name
        if isinstance(original, RemoteFunction) and original.__wrapped__ is self.__wrapped__:
            return _with_config, (original, self.__remote_config__)
        return self.by_value()

    def by_value(self) -> tuple[Any, ...]:
        """Go to a process that has no module to look a name up in."""
        return travelled, (self.__wrapped__, self.__remote_config__, self.key)

    # ── verbs ─────────────────────────────────────────────────────────────────────────────────────

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Await it: a JobOutput on a queue, the bare value on a load-balanced resource."""
        config = self.__remote_config__
        if config.local:
            return self.local(*args, **kwargs)
        caller = self._caller_made or self.caller()
        return named(caller.call(config.policy, args, kwargs), self)  # type: ignore[no-any-return]

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """The same as calling it."""
        return self(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Runs the function in this process, whatever its resource says. Await it."""
        from runpod_flash.client import local  # noqa: PLC0415 - loads asyncio

        config = self.__remote_config__
        variables = config.variables()
        call = local.call(self.__wrapped__, config.resource, variables, config.policy, args, kwargs, self._owner)
        return cast("Coroutine[Any, Any, T]", named(call, self))

    @overload
    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, JobHandle[R]]: ...
    @overload
    def spawn(self, *args: Any, idempotency_key: str | None, **kwargs: Any) -> Coroutine[Any, Any, JobHandle[R]]: ...
    def spawn(  # type: ignore[misc]  # a parameter of the user's with that name cannot be given here
        self, *args: Any, idempotency_key: str | None = None, **kwargs: Any
    ) -> Coroutine[Any, Any, JobHandle[R]]:
        """Puts a job on the queue and returns as soon as it is on record; the job lives on without this program.

        A second spawn with the same `idempotency_key` on the same endpoint gives the job of the first.
        """
        return cast("Coroutine[Any, Any, JobHandle[R]]", named(self._spawn(args, kwargs, idempotency_key), self))

    async def _spawn(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None) -> JobHandle[R]:
        self._check_spawn(key)
        return await self.caller().spawn(self.__remote_config__.policy, args, kwargs, key)

    def map(
        self,
        *inputs: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        in_flight: int = IN_FLIGHT,
    ) -> AsyncIterator[T]:
        """Calls the function for every item; several iterables go side by side, as with the builtin.

        Items are what `await fn(x)` gives, in the order of the input or, with `ordered=False`, as they come. The
        input is read lazily, at most `in_flight` calls ahead. Leaving the loop cancels what is under way.
        """
        from runpod_flash.client import mapping  # noqa: PLC0415 - loads what talks to an engine

        return self._map(mapping.zipped(inputs), ordered, in_flight)

    def starmap(
        self, inputs: Iterable[Any] | AsyncIterable[Any], *, ordered: bool = True, in_flight: int = IN_FLIGHT
    ) -> AsyncIterator[T]:
        """Like `map`, for an iterable of argument tuples."""
        return self._map(inputs, ordered, in_flight)

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
        """What a generator yields, as it yields it: `async for item in fn.stream(…)`.

        The generator is ahead of the loop by a few items at most. Leaving the loop ends it, with its `finally`; what it
        raises is raised here, after its last item.
        """
        if not yields(self.__wrapped__):
            raise UsageError(
                f"{self.__name__} gives no stream",
                where=call_site(),
                why="it returns one value when it has ended; only generators yield values before",
                fix=f"await {self.__name__}(…)",
            )
        config = self.__remote_config__
        if not config.local:
            return self.caller().stream(config.policy, args, kwargs)
        from runpod_flash.client import local  # noqa: PLC0415 - loads asyncio

        return local.stream(self.__wrapped__, config.variables(), args, kwargs, self._owner)

    def _map(self, inputs: Iterable[Any] | AsyncIterable[Any], ordered: bool, in_flight: int) -> AsyncIterator[T]:
        from runpod_flash.client import mapping  # noqa: PLC0415 - loads what talks to an engine

        check_in_flight(in_flight)
        return cast("AsyncIterator[T]", mapping.map_calls(self, inputs, ordered=ordered, in_flight=in_flight))

    @property
    def sync(self) -> SyncVerbs[P, R, T]:
        """The same verbs for code that does not await; also inside a running event loop."""
        return SyncVerbs(self)

    def with_options(self, **options: Any) -> RemoteFunction[P, R, T]:
        """The same function with other options: timeout, ttl and delay in seconds, max_retries, priority.

        `timeout` is that of one attempt; `ttl` counts from the call, and ends the job whether it waits or runs.
        Fields of the resource, such as workersMax, can be given too; its name says which endpoint it is, and stays.
        """
        config = self.__remote_config__
        other: RemoteFunction[P, R, T] = RemoteFunction(self.__wrapped__, config_with(config, options))
        if other.__remote_config__.resource is config.resource:
            other._caller_made, other.key = self._caller_made, self.key
        return other

    # ── how ───────────────────────────────────────────────────────────────────────────────────────

    def caller(self) -> Caller:
        """What makes its calls; loads what talks to an engine."""
        if self._caller_made is None:
            self._caller_made = _caller_for(self)
        return self._caller_made

    def _check_spawn(self, idempotency_key: object) -> None:
        if not self.__remote_config__.resource.is_queue:
            raise UsageError(
                f"{self.__name__} cannot be spawned: it is load-balanced",
                where=call_site(),
                why="a spawned job waits in a queue for whoever asks for it later; a load-balanced call has none",
                fix=f"await {self.__name__}(…), or put it on a queue-based class such as LiveServerless",
            )
        if self.__remote_config__.local:
            raise UsageError(
                f"{self.__name__} cannot be spawned with local=True",
                where=call_site(),
                why="a spawned job lives in a queue, and local calls have none",
                fix="await it, or leave out local=True",
            )
        if idempotency_key is not None and not (isinstance(idempotency_key, str) and idempotency_key):
            raise UsageError(
                f"idempotency_key={shown(idempotency_key)} is not possible",
                where=call_site(),
                why="it must be a string that is not empty",
            )


class SyncVerbs(Generic[P, R, T]):
    """`fn.sync`: blocks the calling thread while the SDK's own event loop does the work."""

    def __init__(self, function: RemoteFunction[P, R, T]) -> None:
        self._function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `await fn(…)` gives."""
        from runpod_flash.client import background  # noqa: PLC0415 - loads asyncio

        return background.run(self._function(*args, **kwargs))

    @overload
    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]: ...
    @overload
    def spawn(self, *args: Any, idempotency_key: str | None, **kwargs: Any) -> JobHandle[R]: ...
    def spawn(  # type: ignore[misc]  # as above
        self, *args: Any, idempotency_key: str | None = None, **kwargs: Any
    ) -> JobHandle[R]:
        """What `await fn.spawn(…)` gives; the handle's `.sync` has its verbs for callers that block."""
        from runpod_flash.client import background  # noqa: PLC0415 - loads asyncio

        return background.run(self._function.spawn(*args, idempotency_key=idempotency_key, **kwargs))

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        """What `fn.stream(…)` gives, as an ordinary iterator."""
        from runpod_flash.client import background  # noqa: PLC0415 - loads asyncio

        return background.iterate(self._function.stream(*args, **kwargs))

    def map(self, *inputs: Iterable[Any], ordered: bool = True, in_flight: int = IN_FLIGHT) -> Iterator[T]:
        """Like `map` of the function, as an ordinary iterator. The input is read in the calling thread."""
        return self.starmap(zip(*inputs, strict=False), ordered=ordered, in_flight=in_flight)

    def starmap(
        self, inputs: Iterable[Iterable[Any]], *, ordered: bool = True, in_flight: int = IN_FLIGHT
    ) -> Iterator[T]:
        """Like `starmap` of the function, as an ordinary iterator."""
        from runpod_flash.client import mapping  # noqa: PLC0415 - loads what talks to an engine

        check_in_flight(in_flight)
        return cast("Iterator[T]", mapping.map_blocking(self._function, inputs, ordered=ordered, in_flight=in_flight))


def _with_config(original: RemoteFunction[..., Any, Any], config: RemoteConfig) -> RemoteFunction[..., Any, Any]:
    return RemoteFunction(original.__wrapped__, config)


def travelled(function: Callable[..., Any], config: RemoteConfig, key: str) -> RemoteFunction[..., Any, Any]:
    """A remote function that arrives in another process."""
    handle: RemoteFunction[..., Any, Any] = RemoteFunction(function, config)
    handle.key = key
    return handle


def _caller_for(handle: RemoteFunction[..., Any, Any]) -> Caller:
    check_worker()
    if handle.__remote_config__.resource.is_queue:
        from runpod_flash.client.calls import Caller  # noqa: PLC0415 - loads what talks to an engine

        return Caller(handle)
    from runpod_flash.client.direct import DirectCaller  # noqa: PLC0415 - as above

    return DirectCaller(handle)


def check_worker() -> None:
    """UsageError in a worker that cannot call.

    Its environment may have a msgspec of its own, which goes before ours, and which calls need as well.
    """
    if door.here() is None:
        return
    import msgspec  # noqa: PLC0415 - a worker that calls nobody does without

    version = tuple(int(part) for part in msgspec.__version__.split(".")[:2] if part.isdigit())
    if version < _LEAST_MSGSPEC:
        raise UsageError(
            f"calls from this worker need msgspec 0.18 or newer, and its environment has {msgspec.__version__}",
            where=call_site(),
            why="what is installed for a function goes before what Flash brings along",
            fix='write dependencies=["msgspec>=0.18", …], or leave it out',
        )


def named(call: Any, function: RemoteFunction[Any, Any, Any]) -> Any:
    """`call` under the function's name, which is then in the warning about a forgotten `await`."""
    call.__qualname__ = function.__qualname__
    return call


def yields(function: Callable[..., Any]) -> bool:
    """Whether it is a generator, asynchronous or not."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def check_in_flight(in_flight: object) -> None:
    """UsageError unless `in_flight` is a positive number of calls."""
    if not isinstance(in_flight, int) or isinstance(in_flight, bool) or in_flight < 1:
        raise UsageError(
            f"in_flight={shown(in_flight)} is not possible",
            where=call_site(),
            why="it must be a whole number, 1 or more",
        )


def config_with(config: RemoteConfig, options: dict[str, Any]) -> RemoteConfig:
    """What `@remote` was told, with other options of calls, or other fields of the resource."""
    chosen = {name: value for name, value in options.items() if name in _POLICY_OPTIONS}
    others = {name: value for name, value in options.items() if name not in _POLICY_OPTIONS}
    resource = _resource_with(config.resource, others) if others else config.resource
    return replace(config, policy=_policy_with(config.policy, chosen), resource=resource)


def _policy_with(policy: JobPolicy, options: dict[str, Any]) -> JobPolicy:
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name in ("max_retries", "priority"):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(
                    f"{name}={shown(value)} is not possible",
                    where=call_site(),
                    why=f"{name} must be a whole number",
                )
            changes[name] = value
        elif name == "ttl" and value is None:
            changes["ttl_ms"] = None
        elif name == "delay" and is_duration(value) and value == 0:
            changes["delay_ms"] = 0
        else:
            changes[f"{name}_ms"] = seconds_to_ms(name, value)
    return check_policy(replace(policy, **changes))


def _resource_with(resource: Resource, options: dict[str, Any]) -> Resource:
    known = set(resource.__dataclass_fields__)
    for name in options:
        if name not in known or name == "name":
            choices = sorted({*known, *_POLICY_OPTIONS} - {"name"})
            raise UsageError(
                f"with_options() has no option {name!r}.{did_you_mean(name, choices)}",
                where=call_site(),
                why=f"its options are {', '.join(_POLICY_OPTIONS)} and the fields of {type(resource).__name__}",
            )
    return resource.replace(**options)
