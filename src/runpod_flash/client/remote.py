"""`@remote`: says where a function runs. Checks what was written, and does nothing else.

No I/O, no account, nothing started, microseconds: a module full of remote functions imports like any other.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar, overload

from runpod_flash.client.function import RemoteClass, RemoteConfig, RemoteFunction
from runpod_flash.errors import ConfigError, UsageError, call_site, did_you_mean
from runpod_flash.model.endpoint import normalise_packages, normalise_requirements
from runpod_flash.model.job import DEFAULT_MAX_RETRIES, JobPolicy, check_policy
from runpod_flash.model.output import JobOutput
from runpod_flash.model.resolve import resolve_timeout_ms
from runpod_flash.model.resources import LoadBalancedResource, QueueResource, Resource
from runpod_flash.model.volumes import Env, read_env

P = ParamSpec("P")
R = TypeVar("R")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
RESERVED_PATHS: Final = ("/ping", "/execute")
OPTIONS: Final = (
    "dependencies",
    "system_dependencies",
    "accelerate_downloads",
    "env",
    "max_retries",
    "timeout",
    "local",
    "method",
    "path",
)


class _Default(int):
    """A default that can be told from the same number written by the user, who then means it."""


_TIMEOUT: Final = _Default(3600)
_MAX_RETRIES: Final = _Default(DEFAULT_MAX_RETRIES)


class QueueDecorator(Protocol):
    """What `remote(queue_resource)` gives: calls return a JobOutput."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteFunction[P, R, JobOutput[R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> RemoteFunction[P, R, JobOutput[R]]: ...


class BareDecorator(Protocol):
    """What `remote(load_balanced_resource)` gives: calls return the function's own value."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> RemoteFunction[P, R, R]: ...
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
    **unknown: Any,
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
    **unknown: Any,
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
    _check_unknown(unknown)
    _check_resource(resource_config)
    _check_flag("accelerate_downloads", accelerate_downloads)
    _check_flag("local", local)
    config = RemoteConfig(
        resource=resource_config,
        requirements=normalise_requirements(_listed("dependencies", dependencies)),
        system=_packages(system_dependencies),
        accelerate_downloads=accelerate_downloads,
        env=read_env(env, "@remote"),
        policy=_policy(resource_config, max_retries, timeout),
        local=local,
        method=_method(resource_config, method),
        path=_path(resource_config, path),
    )

    def decorate(function: Callable[..., Any]) -> Any:
        if isinstance(function, type):
            return RemoteClass(function, config)
        _check_function(function)
        _check_default_path(config, function)
        return RemoteFunction(function, config)

    return decorate


# ── what may be written ───────────────────────────────────────────────────────────────────────────


def _check_unknown(unknown: Mapping[str, Any]) -> None:
    for name in unknown:
        if name == "sync":
            warnings.warn("remote(sync=…) has no effect: a call is awaited, or made with fn.sync(…)", stacklevel=3)
            continue
        raise UsageError(
            f"remote() has no argument {name!r}.{did_you_mean(name, OPTIONS)}",
            where=call_site(),
            why=f"its arguments are resource_config, {', '.join(OPTIONS)}",
        )


def _check_resource(resource: object) -> None:
    if isinstance(resource, Resource):
        return
    if isinstance(resource, type) and issubclass(resource, Resource):
        what, fix = f"the class {resource.__name__}", f'make one: remote({resource.__name__}(name="…"))'
    elif callable(resource):
        what = f"the function {getattr(resource, '__name__', resource)!r}"
        fix = 'write @remote(LiveServerless(name="…")), with the resource in parentheses'
    else:
        what, fix = f"{resource!r}", 'write remote(resource_config=LiveServerless(name="…"))'
    raise UsageError(
        f"remote() was given {what} where the resource belongs",
        where=call_site(),
        why="resource_config must be one of the eight resource classes, such as LiveServerless",
        fix=fix,
    )


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(
            f"{name}={value!r} is not possible",
            where=call_site(),
            why=f"it must be True or False, not {type(value).__name__}",
        )


def _listed(name: str, value: object) -> Sequence[str]:
    if value is None:
        return ()
    if isinstance(value, (str, list, tuple, set, frozenset)):  # a lone string gets the better message below
        return value  # type: ignore[return-value]
    raise ConfigError(
        f"{name}={value!r} is not possible",
        where=call_site(),
        why=f"it must be a list of strings, not {type(value).__name__}",
    )


def _packages(packages: Sequence[str] | None) -> tuple[str, ...]:
    names = normalise_packages(_listed("system_dependencies", packages))
    for name in names:
        if not all(char.isascii() and (char.isalnum() or char in "+-.:=~") for char in name):
            raise ConfigError(
                f"system_dependencies contains {name!r}",
                where=call_site(),
                why="it must be the name of a Debian package: letters, digits, '+', '-' and '.'",
            )
    return names


def _policy(resource: Resource, max_retries: Any, timeout: Any) -> JobPolicy:
    if not isinstance(max_retries, int) or isinstance(max_retries, bool):
        raise ConfigError(
            f"max_retries={max_retries!r} is not possible",
            where=call_site(),
            why=f"it must be a whole number, 0 or more, not {type(max_retries).__name__}",
        )
    if not resource.is_queue and max_retries is not _MAX_RETRIES and max_retries:
        warnings.warn(
            f"max_retries={max_retries} has no effect on {type(resource).__name__}: only calls on a queue are retried",
            stacklevel=3,
        )
    timeout_ms = resolve_timeout_ms(None if timeout is _TIMEOUT else timeout, resource)
    return check_policy(JobPolicy(timeout_ms=timeout_ms, max_retries=int(max_retries)))


def _method(resource: Resource, method: object) -> str | None:
    if method is None:
        return None
    _check_http("method", method, resource)
    if isinstance(method, str) and method.upper() in METHODS:
        return method.upper()
    raise ConfigError(
        f"method={method!r} is not possible",
        where=call_site(),
        why=f"it must be one of {', '.join(METHODS)}.{did_you_mean(str(method), METHODS)}",
    )


def _path(resource: Resource, path: object) -> str | None:
    if path is None:
        return None
    _check_http("path", path, resource)
    if not isinstance(path, str) or not path.startswith("/"):
        fix = f"write path='/{path}'" if isinstance(path, str) else None
        raise ConfigError(f"path={path!r} is not possible", where=call_site(), why="it must begin with '/'", fix=fix)
    if path in RESERVED_PATHS:
        raise ConfigError(
            f"path={path!r} is not possible",
            where=call_site(),
            why=f"{' and '.join(RESERVED_PATHS)} belong to every endpoint already",
        )
    return path


def _check_http(name: str, value: object, resource: Resource) -> None:
    if resource.is_queue:
        raise UsageError(
            f"{name}={value!r} has no meaning on {type(resource).__name__}",
            where=call_site(),
            why="only load-balanced resources are called over HTTP",
            fix="use a load-balanced class, such as LiveLoadBalancer, or leave it out",
        )


def _check_default_path(config: RemoteConfig, function: Callable[..., Any]) -> None:
    path = f"/{function.__name__}"
    if not config.resource.is_queue and config.path is None and path in RESERVED_PATHS:
        raise ConfigError(
            f"the function {function.__name__!r} would be served at {path}, which belongs to every endpoint already",
            where=call_site(),
            fix=f"write path='/…' in @remote, or rename the function {function.__name__}",
        )


def _check_function(function: object) -> None:
    if isinstance(function, RemoteFunction):
        raise UsageError(f"{function.__name__} is decorated with @remote twice", where=call_site())
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise UsageError(
            f"@remote cannot decorate a {kind}",
            where=call_site(),
            fix=f"put @{kind} above @remote, not below it",
        )
    if not inspect.isfunction(function):
        raise UsageError(
            f"@remote cannot decorate {function!r}",
            where=call_site(),
            why=f"it takes functions written with def or async def, not {type(function).__name__}",
            fix="write a function that calls it",
        )
