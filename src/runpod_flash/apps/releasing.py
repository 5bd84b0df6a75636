"""From what a project declares to a release: endpoints with their pools and functions, and the values of variables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from runpod_flash import settings
from runpod_flash.apps.declared import Declared, Survey
from runpod_flash.apps.manifest import by_endpoint
from runpod_flash.client import environment
from runpod_flash.errors import ConfigError, MissingVariableError
from runpod_flash.model.endpoint import PoolSpec
from runpod_flash.model.options import canonical
from runpod_flash.wire import artifacts
from runpod_flash.wire.messages import DeployedEndpoint, FunctionSpec


def check(found: Survey) -> None:
    """ConfigError for what cannot be one release: two settings of one endpoint, two functions on one route or name."""
    for name, ones in by_endpoint(found.functions).items():
        _check_endpoint(name, ones)


def endpoints(found: Survey, secrets: Iterable[str], folder: Path) -> list[DeployedEndpoint]:
    """The release. Variables that are asked for come from this program's environment and the project's `.env`.

    But for `secrets`, which workers are given by the engine. `folder` is where the artifact will lie unpacked.
    """
    known = frozenset(secrets)
    return [_endpoint(ones, known, folder) for ones in by_endpoint(found.functions).values()]


def keep(archive: Path, data: Path, content: str) -> None:
    """Gives the engine's machine the archive, unless it has it."""
    target = artifacts.archive_of(artifacts.folder_of(data, content))
    if target.exists():
        os.utime(target)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(archive, temporary)
        temporary.chmod(0o600)
        temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _endpoint(ones: Sequence[Declared], secrets: frozenset[str], folder: Path) -> DeployedEndpoint:
    pools: list[PoolSpec] = []
    functions: list[tuple[int, FunctionSpec]] = []
    for one in ones:
        pool = _pool(one, secrets, folder)
        if pool not in pools:
            pools.append(pool)
        functions.append((pools.index(pool), one.declare.function))
    return DeployedEndpoint(endpoint=ones[0].declare.endpoint, pools=pools, functions=functions)


def _pool(one: Declared, secrets: frozenset[str], folder: Path) -> PoolSpec:
    pool = one.declare.pool
    asked: Mapping[str, str | None] = {name: None for name in one.asks if name not in secrets}
    try:
        given = environment.resolve_variables(asked, one.where)
    except MissingVariableError as error:
        error.fix = f"{error.fix}; or keep it as a secret: flash secret set {next(iter(asked))}"
        raise
    served = pool.application
    return dataclasses.replace(
        pool,
        variables={**pool.variables, **given},
        base_env=settings.inherited(),
        application=dataclasses.replace(served, folder=str(folder)) if served is not None else None,
    )


def _check_endpoint(name: str, ones: Sequence[Declared]) -> None:
    first = ones[0]
    for other in ones[1:]:
        if other.declare.endpoint != first.declare.endpoint:
            raise ConfigError(
                f"the endpoint {name!r} is declared in two ways: {first.where} and {other.where}",
                where=other.where,
                why="functions of one endpoint share its workers, so its settings have to be the same",
                fix="use one resource for both, or give one of them another name",
            )
    names: dict[str, Declared] = {}
    routes: dict[tuple[str, str], Declared] = {}
    for one in ones:
        spec = one.declare.function
        if names.setdefault(spec.name, one) is not one:
            raise ConfigError(
                f"{spec.name} is declared twice: {names[spec.name].where} and {one.where}",
                why="functions of an endpoint are called by their names",
                fix="give one of them another name",
            )
        for route in spec.routes:
            taken = routes.setdefault((route.method, canonical(route.path)), one)
            if taken is not one:
                raise ConfigError(
                    f"two functions of the endpoint {name!r} want to answer {route.method} {route.path}: "
                    f"{taken.declare.function.name} ({taken.where}) and {spec.name} ({one.where})",
                    where=one.where,
                    why="a request can go to one of them only",
                    fix="give one another path, in @remote(…, path='/…'), or put it on a resource of another name",
                )
