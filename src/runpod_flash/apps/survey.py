"""What a project declares: its remote functions, its app and its mothership, found by importing it.

Runs in a process of its own, `python -m runpod_flash.apps.survey`: a request on stdin, the answer in a file. So an
import that hangs, ends the process or leaves things behind costs nobody else, and what is printed meanwhile is no
answer. Variables that a function takes from whoever deploys it stay open: no value of one is in the answer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec

from runpod_flash import settings
from runpod_flash.apps import loading, sources
from runpod_flash.apps.declared import AppRoute, Declared, Failure, Request, Survey
from runpod_flash.apps.namespace import as_of
from runpod_flash.apps.target import FILES, Kind, find_target
from runpod_flash.client import application, environment, methods
from runpod_flash.client.classes import RemoteClass
from runpod_flash.client.function import RemoteFunction
from runpod_flash.client.import_failure import import_failed
from runpod_flash.client.requirements import complete
from runpod_flash.client.scope import location
from runpod_flash.errors import ConfigError, FlashError, UsageError
from runpod_flash.model.endpoint import Application, normalise_requirements
from runpod_flash.model.resolve import merge_env
from runpod_flash.model.resources import Resource
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire.messages import Declare

DEPLOYED: Final = "runpod_flash.apps.loading:deployed()"
"""What workers serve of a project that has no app of its own, but examples or routers."""
MOTHERSHIP: Final = "mothership"


class _Asked:
    """Stands for the link of a program that calls: all that shipping asks of it."""

    def __init__(self, request: Request) -> None:
        self.app = (request.app, request.env)
        self.settings = settings.load(project=Path(request.root))


def survey(request: Request) -> Survey:
    """Imports the project and says what it declares. FlashError names the user's file and line."""
    root = Path(request.root)
    environment.stand_in_for(root)
    environment.load_dotenv()
    environment.leave_open()
    sys.path.insert(0, request.root)
    found = Survey()
    app, inside, alone = _app_of(root, found)
    _import_rest(root, [path for path in request.files if not path.startswith(tuple(inside))])
    link = _Asked(request)
    modules = list(_modules_of(root))
    _require(modules, request.requirements)
    for module in modules:
        with as_of(module.__name__):  # what travels with a function of an example is looked for in its folder
            functions = list(_functions_of(module, link, request))
        for one in functions if alone else ():
            # Its modules are in a namespace whose name comes from the folder, which is another one in a worker.
            one.declare.function.name = one.declare.function.name.partition(".")[2]
        found.functions += functions
    if app is not None:
        found.routes = list(_routes_of(app, root))
        _check_routes(found.routes)
    _mothership(root, found, request)
    needed = {digest for one in found.functions for digest in one.declare.function.defs}
    found.definitions = {digest: TABLE.body(digest) for digest in sorted(needed)}
    return found


# ── imported ──────────────────────────────────────────────────────────────────────────────────────


def _app_of(root: Path, found: Survey) -> tuple[Any, list[str], bool]:
    """The ASGI app, if there is one, the folders of the examples in it, whose modules only they import, and whether it
    is one example alone."""
    try:
        target = find_target(str(root))
    except UsageError:
        return None, [], False
    app = loading.load(target)
    found.app = f"{Path(target.file).stem}:{target.name}" if target.kind is Kind.APP else DEPLOYED
    if not loading.is_gallery(app):
        return app, [], target.kind is Kind.EXAMPLE
    asyncio.run(app.load_all())
    for served in app.examples:
        if served.error is not None:
            sys.stderr.write(f"flash: the example {served.example.name} is broken: {served.error.what}\n")
    return app, [f"{served.example.folder.relative_to(root).as_posix()}/" for served in app.examples], False


def _import_rest(root: Path, files: Iterable[str]) -> None:
    """Files with remote functions that nobody has imported yet. One that is no Python might have some."""
    known = {os.path.realpath(file) for module in list(sys.modules.values()) if (file := _file_of(module))}
    for path in files:
        if not path.endswith(".py") or sources.is_test(path) or not sources.module_name(path):
            continue
        if os.path.realpath(root / path) not in known and _read(root, path).has_remote:
            _import(root, path)


def _read(root: Path, path: str) -> sources.Source:
    try:
        return sources.Source(path, sources.parse(root, path))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        failed = import_failed(path, error)
        failed.where = failed.where or str(root / path)
        failed.fix = f"mend it, or leave it out: a line {path} in .flashignore"
        raise failed from None


def _import(root: Path, path: str) -> ModuleType:
    name = sources.module_name(path)
    try:
        return importlib.import_module(name)
    except FlashError as error:
        error.where = error.where or str(root / path)
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's module raises
        raise import_failed(path, error) from None


def _modules_of(root: Path) -> Iterator[ModuleType]:
    """The project's modules, in the order of their files."""
    inside = os.path.realpath(root) + os.sep
    found = {
        os.path.realpath(file): module
        for module in list(sys.modules.values())
        if (file := _file_of(module)) and os.path.realpath(file).startswith(inside)
    }
    yield from (found[file] for file in sorted(found) if f"{os.sep}site-packages{os.sep}" not in file)


def _file_of(module: ModuleType | None) -> str:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else ""


# ── what is declared ──────────────────────────────────────────────────────────────────────────────


def _require(modules: Iterable[ModuleType], requirements: Sequence[str]) -> None:
    """What the project requires counts as declared by each of its functions: nothing is added in another version."""
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, (RemoteFunction, RemoteClass)):
                config = value.__remote_config__
                all_of_them = normalise_requirements((*config.requirements, *requirements))
                value.__remote_config__ = dataclasses.replace(config, requirements=all_of_them)


def _functions_of(module: ModuleType, link: Any, request: Request) -> Iterator[Declared]:
    """The remote functions and classes that a module defines itself, in the order of its lines."""
    own = {
        id(value): value
        for value in vars(module).values()
        if isinstance(value, (RemoteFunction, RemoteClass)) and value.__wrapped__.__module__ == module.__name__
    }
    for value in sorted(own.values(), key=lambda value: _line(value.__wrapped__)):
        if value.__remote_config__.local:
            continue
        if isinstance(value, RemoteClass):
            instance = value()
            for name in dir(instance):
                yield _declared(getattr(instance, name), methods.caller_of(getattr(instance, name)), link, request)
        else:
            yield _declared(value, value.caller(), link, request)


def _declared(handle: RemoteFunction[..., Any, Any], caller: Any, link: Any, request: Request) -> Declared:
    config = handle.__remote_config__
    declare: Declare = caller.prepare(link).shipped
    wanted = config.variables()
    project = normalise_requirements(request.requirements)
    where = _relative(location(handle.__wrapped__), request.root)
    pool = dataclasses.replace(declare.pool, base_env={})
    return Declared(
        declare=msgspec.structs.replace(
            declare,
            endpoint=dataclasses.replace(declare.endpoint, origin="deployed"),
            pool=pool,
            function=msgspec.structs.replace(declare.function, where=where),
        ),
        resource=type(config.resource).__name__,
        where=where,
        asks=sorted(name for name, value in wanted.items() if value is None),
        env=sorted(wanted),
        dependencies=[one for one in config.requirements if one not in project],
        system=list(config.system),
        timeout_s=config.policy.timeout_ms / 1000 if config.policy.timeout_ms else None,
        max_retries=config.policy.max_retries if config.resource.is_queue else None,
    )


def _mothership(root: Path, found: Survey, request: Request) -> None:
    """The endpoint that serves the app: the variable `mothership` of mothership.py."""
    file = f"{MOTHERSHIP}.py"
    if not (root / file).is_file():
        return
    resource = getattr(_import(root, file), MOTHERSHIP, None)
    if resource is None:
        return
    where = sources.line_of(root, file, MOTHERSHIP)
    if not isinstance(resource, Resource):
        raise ConfigError(
            f"`mothership` is a {type(resource).__name__}",
            where=where,
            why="it has to be a load-balanced resource",
            fix='write mothership = CpuLiveLoadBalancer(name="…")',
        )
    if not found.app:
        raise UsageError(
            "there is a mothership, and no app that it could serve",
            where=where,
            why=f"none of {', '.join(FILES)} defines `app`, and there are no examples and no routers of workers",
            fix="define app = FastAPI() in main.py, or comment out `mothership`",
        )
    needs = complete(tuple(request.requirements), list(sources.wanted(root, request.files)), (), ())
    wanted = merge_env(resource)
    told = application.declaration(
        resource,
        Application(found.app, "", request.content),
        app=request.app,
        env=request.env,
        requirements=(*request.requirements, *needs.added),
        variables={name: value for name, value in wanted.items() if value is not None},
        where=where,
    )
    told = msgspec.structs.replace(told, pool=dataclasses.replace(told.pool, base_env={}))
    found.mothership = type(resource).__name__
    found.functions.append(
        Declared(
            declare=told,
            resource=found.mothership,
            where=_relative(where, request.root),
            asks=sorted(name for name, value in wanted.items() if value is None),
            env=sorted(wanted),
        )
    )


def _routes_of(app: Any, root: Path, prefix: str = "") -> Iterator[AppRoute]:
    if loading.is_gallery(app):
        for served in app.examples:
            yield from _routes_of(served.app, root, served.prefix)
    routing = sys.modules.get("fastapi.routing")
    contexts = getattr(routing, "iter_route_contexts", None)  # newer versions keep included routers as one
    for route in getattr(app, "routes", ()) if contexts is None else contexts(getattr(app, "routes", ())):
        endpoint = getattr(route, "endpoint", None)
        path = getattr(route, "path", "")
        if endpoint is None or getattr(route, "include_in_schema", True) is False:
            continue
        where = _relative(location(endpoint), str(root)) if inspect.isfunction(inspect.unwrap(endpoint)) else ""
        for method in sorted((getattr(route, "methods", None) or {"WEBSOCKET"}) - {"HEAD"}):
            yield AppRoute(method, prefix + path, getattr(endpoint, "__name__", ""), where)


def _check_routes(routes: Iterable[AppRoute]) -> None:
    """ConfigError for two functions on one route, of which only the first would ever be called."""
    seen: dict[tuple[str, str], AppRoute] = {}
    for route in routes:
        other = seen.setdefault((route.method, route.path), route)
        if other is not route and (other.function, other.where) != (route.function, route.where):
            raise ConfigError(
                f"two functions of the app want to answer {route.method} {route.path}: {other.function} "
                f"({other.where}) and {route.function} ({route.where})",
                where=route.where,
                why="a request can go to one of them only, and the first that was declared gets all",
                fix="give one of them another path, or another prefix where its router is included",
            )


def _relative(where: str, root: str) -> str:
    file, _, line = where.rpartition(":")
    real = os.path.realpath(file)
    inside = os.path.realpath(root) + os.sep
    return f"{real.removeprefix(inside)}:{line}" if real.startswith(inside) else where


def _line(function: Any) -> int:
    return int(location(function).rpartition(":")[2] or 0)


def main() -> None:
    """Answers the request on stdin."""
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    os.dup2(2, 1)  # what the project prints while it is imported
    try:
        found = survey(request)
    except FlashError as error:
        found = Survey(failure=Failure(error.code, error.what, error.why, error.fix, error.where))
    descriptor = os.open(request.answer, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.msgpack.encode(found))
    sys.stdout.flush()
    os._exit(0)  # threads that an import has started are nobody's


if __name__ == "__main__":
    main()
