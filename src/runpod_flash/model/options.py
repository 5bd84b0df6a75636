"""What may be written in `@remote(...)`, and the refusal of what may not. Values in, values out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from runpod_flash.errors import ConfigError, UsageError, call_site, did_you_mean, shown
from runpod_flash.model.endpoint import normalise_packages, normalise_requirements
from runpod_flash.model.job import JobPolicy, check_policy
from runpod_flash.model.resolve import resolve_timeout_ms
from runpod_flash.model.resources import Resource

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ANY_METHOD: Final = "*"
"""The method of an application's route, which answers whatever no function of its endpoint does."""
RESERVED_PATHS: Final = ("/ping", "/execute")
PATH_PARAMETER: Final = re.compile(r"\{([^{}/:]+)(:path)?\}")
"""`{name}` and `{name:path}` in a path."""
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
"""The arguments of `remote` beside the resource, in their order."""

WITHOUT_EFFECT: Final = ("sync",)
"""Arguments of other generations: accepted with a notice."""


def check_known(name: str) -> None:
    """Refuses an argument that `remote` does not have."""
    if name in OPTIONS or name in WITHOUT_EFFECT or name == "resource_config":
        return
    raise UsageError(
        f"remote() has no argument {name!r}.{did_you_mean(name, OPTIONS)}",
        where=call_site(),
        why=f"its arguments are resource_config, {', '.join(OPTIONS)}",
    )


def check_flag(name: str, value: object) -> None:
    """Refuses anything but True and False."""
    if not isinstance(value, bool):
        raise UsageError(
            f"{name}={shown(value)} is not possible",
            where=call_site(),
            why=f"it must be True or False, not {type(value).__name__}",
        )


def read_requirements(requirements: object) -> tuple[str, ...]:
    """`dependencies`, in one spelling, sorted."""
    return normalise_requirements(_listed("dependencies", requirements))


def read_packages(packages: object) -> tuple[str, ...]:
    """`system_dependencies`, sorted."""
    names = normalise_packages(_listed("system_dependencies", packages))
    for name in names:
        if not all(char.isascii() and (char.isalnum() or char in "+-.:=~") for char in name):
            raise ConfigError(
                f"system_dependencies contains {name!r}",
                where=call_site(),
                why="it must be the name of a Debian package: letters, digits, '+', '-' and '.'",
            )
    return names


def read_policy(resource: Resource, max_retries: Any, timeout: Any) -> JobPolicy:
    """`max_retries`, and `timeout` in seconds; None: what the resource says."""
    if not isinstance(max_retries, int) or isinstance(max_retries, bool):
        raise ConfigError(
            f"max_retries={shown(max_retries)} is not possible",
            where=call_site(),
            why=f"it must be a whole number, 0 or more, not {type(max_retries).__name__}",
        )
    return check_policy(
        JobPolicy(timeout_ms=resolve_timeout_ms(timeout, resource), max_retries=int(max_retries)),
    )


def read_method(resource: Resource, method: object) -> str | None:
    """`method` in capitals."""
    if method is None:
        return None
    _check_http("method", method, resource)
    if isinstance(method, str) and method.upper() in METHODS:
        return method.upper()
    meant = did_you_mean(method, METHODS) if isinstance(method, str) else ""
    raise ConfigError(
        f"method={shown(method)} is not possible",
        where=call_site(),
        why=f"it must be one of {', '.join(METHODS)}.{meant}",
    )


def read_path(resource: Resource, path: object) -> str | None:
    """`path`, as it was written."""
    if path is None:
        return None
    _check_http("path", path, resource)
    if not isinstance(path, str) or not path.startswith("/"):
        fix = f"write path='/{path}'" if isinstance(path, str) else None
        raise ConfigError(
            f"path={shown(path)} is not possible", where=call_site(), why="it must begin with '/'", fix=fix
        )
    names = path_parameters(path)
    plain = PATH_PARAMETER.sub("", path)
    if "{" in plain or "}" in plain or len(set(names)) < len(names):
        raise ConfigError(
            f"path={shown(path)} is not possible",
            where=call_site(),
            why="a parameter is written {name}, or {name:path} for all that follows, and each name once",
        )
    if path in RESERVED_PATHS:
        raise ConfigError(
            f"path={shown(path)} is not possible",
            where=call_site(),
            why=f"{' and '.join(RESERVED_PATHS)} belong to every endpoint already",
        )
    return path


def path_parameters(path: str) -> list[str]:
    """The names in braces, in their order: `name` and `rest` of `/{name}/{rest:path}`."""
    return [name for name, _rest in PATH_PARAMETER.findall(path)]


def check_path_parameters(path: str | None, function: Callable[..., object]) -> None:
    """Refuses a path that names what its function does not take."""
    if path is None or "{" not in path:
        return
    taken = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in taken):
        return
    known = [one.name for one in taken if one.kind is not one.VAR_POSITIONAL]
    for name in path_parameters(path):
        if name not in known:
            raise ConfigError(
                f"path={shown(path)} names {{{name}}}, and {function.__name__}() has no parameter {name!r}"
                f".{did_you_mean(name, known)}",
                where=call_site(),
                why="what stands in braces is given to the parameter of that name",
                fix=f"add a parameter {name}, or take {{{name}}} out of the path",
            )


def check_defaults(resource: Resource, function: Any) -> None:
    """Refuses what only FastAPI can fill in, and nobody would."""
    if resource.is_queue:
        return
    for one in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        kind = type(one)
        if kind.__module__ == "fastapi.params" and kind.__name__ in ("Depends", "Security"):
            raise ConfigError(
                f"{function.__name__}() has a parameter whose default is {kind.__name__}(…)",
                where=call_site(),
                why="a remote function is called by itself, without an application that has dependencies",
                fix="call what it depends on in the body of the function",
            )


def check_default_path(resource: Resource, path: str | None, function: str) -> None:
    """Refuses a load-balanced function whose name would make a reserved path."""
    if not resource.is_queue and path is None and f"/{function}" in RESERVED_PATHS:
        raise ConfigError(
            f"the function {function!r} would be served at /{function}, which belongs to every endpoint already",
            where=call_site(),
            why=f"{' and '.join(RESERVED_PATHS)} are how the engine reaches a worker",
            fix=f"write path='/…' in @remote, or rename the function {function}",
        )


def _listed(name: str, value: object) -> Sequence[str]:
    if value is None:
        return ()
    if isinstance(value, (str, list, tuple, set, frozenset)):  # a lone string gets the better message of who reads it
        return value  # type: ignore[return-value]  # a set will do: nobody asks for its order
    raise ConfigError(
        f"{name}={shown(value)} is not possible",
        where=call_site(),
        why=f"it must be a list of strings, not {type(value).__name__}",
    )


def _check_http(name: str, value: object, resource: Resource) -> None:
    if resource.is_queue:
        raise UsageError(
            f"{name}={shown(value)} has no meaning on {type(resource).__name__}",
            where=call_site(),
            why="only load-balanced resources are called over HTTP",
            fix="use a load-balanced class, such as LiveLoadBalancer, or leave it out",
        )


def canonical(path: str) -> str:
    """The same for all paths that cannot be told apart by a request."""
    return (PATH_PARAMETER.sub(lambda found: "{:path}" if found[2] else "{}", path).rstrip("/")) or "/"
