"""`@remote`: says where a function runs. Checks what was written, and does nothing else.

No I/O, no account, nothing started, microseconds: a module full of remote functions imports like any other.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar, overload

from runpod_flash.client.classes import RemoteClass, RemoteMethod
from runpod_flash.client.function import RemoteConfig, RemoteFunction
from runpod_flash.errors import UsageError, call_site, shown
from runpod_flash.model.job import DEFAULT_MAX_RETRIES
from runpod_flash.model.options import (
    check_default_path,
    check_defaults,
    check_flag,
    check_known,
    check_path_parameters,
    read_method,
    read_packages,
    read_path,
    read_policy,
    read_requirements,
)
from runpod_flash.model.output import JobOutput
from runpod_flash.model.resources import LoadBalancedResource, QueueResource, Resource
from runpod_flash.model.volumes import Env, read_env

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")
C = TypeVar("C")


class _Default(int):
    """A default that can be told from the same number written by the user, who then means it."""


_TIMEOUT: Final = _Default(3600)
_MAX_RETRIES: Final = _Default(DEFAULT_MAX_RETRIES)


class QueueDecorator(Protocol):
    """What `remote(queue_resource)` gives: calls return a JobOutput."""

    @overload
    def __call__(self, cls: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]  # a class is no function
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteFunction[P, R, JobOutput[R]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Iterator[Y] | AsyncIterator[Y]], /
    ) -> RemoteFunction[P, list[Y], JobOutput[list[Y]]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteFunction[P, R, JobOutput[R]]: ...


class BareDecorator(Protocol):
    """What `remote(load_balanced_resource)` gives: calls return the function's own value."""

    @overload
    def __call__(self, cls: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]  # a class is no function
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteFunction[P, R, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Iterator[Y] | AsyncIterator[Y]], /
    ) -> RemoteFunction[P, list[Y], list[Y]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteFunction[P, R, R]: ...


@overload
def remote(
    resource_config: QueueResource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = False,
    env: Env | None = None,
    max_retries: int = DEFAULT_MAX_RETRIES,
    timeout: float = 3600,
    *,
    local: bool = False,
    method: Literal[None] = None,
    path: Literal[None] = None,
    sync: object = None,
) -> QueueDecorator: ...
@overload
def remote(
    resource_config: LoadBalancedResource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = False,
    env: Env | None = None,
    max_retries: int = DEFAULT_MAX_RETRIES,
    timeout: float = 3600,
    *,
    local: bool = False,
    method: str | None = None,
    path: str | None = None,
    sync: object = None,
) -> BareDecorator: ...
def remote(
    resource_config: Resource,
    dependencies: Sequence[str] | None = None,
    system_dependencies: Sequence[str] | None = None,
    accelerate_downloads: bool = False,
    env: Env | None = None,
    max_retries: int = _MAX_RETRIES,
    timeout: float = _TIMEOUT,
    *,
    local: bool = False,
    method: str | None = None,
    path: str | None = None,
    **unknown: Any,
) -> Any:
    """Makes a function run on workers of `resource_config`, in an environment with `dependencies`.

    Calling the decorated function gives an awaitable: of a JobOutput on a queue, of the bare value on a load-balanced
    resource. `env` is added to the worker's variables (None: the caller's own value at the call). `max_retries` counts
    further attempts after one that raised or timed out; `timeout` is in seconds, of one attempt. With `local=True` the
    function runs in this process. ConfigError and UsageError name what cannot be.
    """
    for name in unknown:
        check_known(name)
        warnings.warn(f"remote({name}=…) has no effect: a call is awaited, or made with fn.sync(…)", stacklevel=2)
    _check_resource(resource_config)
    check_flag("accelerate_downloads", accelerate_downloads)
    check_flag("local", local)
    config = RemoteConfig(
        resource=resource_config,
        requirements=read_requirements(dependencies),
        system=read_packages(system_dependencies),
        accelerate_downloads=accelerate_downloads,
        env=read_env(env, "@remote"),
        policy=read_policy(resource_config, max_retries, _unless_default(timeout, _TIMEOUT)),
        local=local,
        method=read_method(resource_config, method),
        path=read_path(resource_config, path),
    )
    if not resource_config.is_queue and _unless_default(max_retries, _MAX_RETRIES):
        warnings.warn(
            f"max_retries={max_retries} has no effect on {type(resource_config).__name__}: "
            "only calls on a queue are retried",
            stacklevel=2,
        )

    def decorate(function: Callable[..., Any]) -> Any:
        if isinstance(function, type):
            _check_class(function, config)
            return RemoteClass(function, config)
        _check_function(function)
        check_default_path(config.resource, config.path, function.__name__)
        check_path_parameters(config.path, function)
        check_defaults(config.resource, function)
        return RemoteFunction(function, config)

    return decorate


# ── what may be written ───────────────────────────────────────────────────────────────────────────


def _unless_default(value: Any, default: _Default) -> Any:
    return None if value is default else value


def _check_resource(resource: object) -> None:
    if isinstance(resource, Resource):
        return
    if isinstance(resource, type) and issubclass(resource, Resource):
        what, fix = f"the class {resource.__name__}", f'make one: remote({resource.__name__}(name="…"))'
    elif callable(resource):
        what = f"the function {getattr(resource, '__name__', resource)!r}"
        fix = 'write @remote(LiveServerless(name="…")), with the resource in parentheses'
    else:
        what, fix = f"{shown(resource)}", 'write remote(resource_config=LiveServerless(name="…"))'
    raise UsageError(
        f"remote() was given {what} where the resource belongs",
        where=call_site(),
        why="resource_config must be one of the eight resource classes, such as LiveServerless",
        fix=fix,
    )


def _check_class(cls: type, config: RemoteConfig) -> None:
    if config.path is not None or config.method is not None:
        raise UsageError(
            f"@remote with a path or a method cannot decorate the class {cls.__name__}",
            where=call_site(),
            why="the methods of a class are called through a handle; a route belongs to one function",
            fix="leave both out, and write a load-balanced function that calls a method of the handle",
        )


def _check_function(function: object) -> None:
    if isinstance(function, RemoteClass):
        raise UsageError(
            f"the class {function.__name__} is decorated with @remote twice",
            where=call_site(),
            why="a remote class runs on one resource",
            fix=f"leave out one of the two; for other options: {function.__name__}.with_options(…)",
        )
    if isinstance(function, RemoteMethod):
        raise UsageError(
            f"{function.__name__} is remote already: it is a method of a remote class",
            where=call_site(),
            fix="call it as it is",
        )
    if isinstance(function, RemoteFunction):
        raise UsageError(
            f"{function.__name__} is decorated with @remote twice",
            where=call_site(),
            why="a remote function runs on one resource",
            fix="leave out one of the two; for another resource, decorate the plain function again",
        )
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise UsageError(
            f"@remote cannot decorate a {kind}",
            where=call_site(),
            why="it takes the function itself",
            fix=f"put @{kind} above @remote, not below it",
        )
    if not inspect.isfunction(function):
        raise UsageError(
            f"@remote cannot decorate {shown(function)}",
            where=call_site(),
            why=f"it takes functions written with def or async def, not {type(function).__name__}",
            fix="write a function that calls it",
        )
