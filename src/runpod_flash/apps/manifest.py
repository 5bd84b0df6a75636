"""`flash_manifest.json`: what an artifact is made of and declares, for people and programs that have only the file.

Its schema is docs/reference/schemas/flash-manifest.json; SCHEMA_VERSION grows when a field changes its meaning or goes.
It names variables and never has their values, and says nothing of the machine or the time it was made on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from runpod_flash._version import __version__
from runpod_flash.apps.artifact import FileFacts, content_digest
from runpod_flash.apps.declared import AppRoute, Declared, Survey
from runpod_flash.client.application import NAME as APPLICATION

SCHEMA_VERSION: Final = 1

Json = dict[str, Any]


def describe(name: str, found: Survey, files: Sequence[FileFacts], requirements: Sequence[str]) -> Json:
    """The manifest of a project."""
    functions = [one for one in found.functions if one.declare.pool.application is None]
    return {
        "schema_version": SCHEMA_VERSION,
        "flash_version": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "project": name,
        "content": content_digest(files),
        "app": found.app or None,
        "mothership": next((_resource(name, ones) for name, ones in _motherships(found)), None),
        "resources": [_resource(name, ones) for name, ones in by_endpoint(functions).items()],
        "functions": [_function(one) for one in functions],
        "routes": [_route(route) for route in found.routes],
        "requirements": list(requirements),
        "files": [one._asdict() for one in files],
    }


def encode(manifest: Json) -> bytes:
    """As it is written."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")


def by_endpoint(functions: Iterable[Declared]) -> dict[str, list[Declared]]:
    """Functions by the name of their endpoint, in the order of the names."""
    found: dict[str, list[Declared]] = {}
    for one in sorted(functions, key=lambda one: one.declare.endpoint.name):
        found.setdefault(one.declare.endpoint.name, []).append(one)
    return found


def _motherships(found: Survey) -> Iterable[tuple[str, list[Declared]]]:
    return by_endpoint(one for one in found.functions if one.declare.pool.application is not None).items()


def _resource(name: str, functions: Sequence[Declared]) -> Json:
    spec, pool = functions[0].declare.endpoint, functions[0].declare.pool
    return {
        "name": name,
        "class": functions[0].resource,
        "kind": spec.kind,
        "workers_min": spec.workers_min,
        "workers_max": spec.workers_max,
        "idle_timeout_s": spec.idle_timeout_s,
        "scaler": spec.scaler,
        "scaler_value": spec.scaler_value,
        "gpus": [{"name": gpu.name, "count": gpu.count} for gpu in pool.gpus],
        "cpus": pool.cpus,
        "memory_mb": pool.memory_mb,
        "volumes": [mount.volume for mount in pool.mounts],
        "env": sorted({name for one in functions for name in one.env}),
        "functions": [one.declare.function.name for one in functions if one.declare.function.name != APPLICATION],
    }


def _function(one: Declared) -> Json:
    spec = one.declare.function
    route = spec.routes[0] if spec.routes else None
    return {
        "name": spec.name,
        "resource": one.declare.endpoint.name,
        **_place(one.where),
        "is_async": spec.is_async,
        "method": route.method if route else None,
        "path": route.path if route else None,
        "timeout_s": one.timeout_s,
        "max_retries": one.max_retries,
        "dependencies": one.dependencies,
        "system_dependencies": one.system,
        "env": one.env,
        "version": spec.version,
    }


def _route(route: AppRoute) -> Json:
    return {"method": route.method, "path": route.path, "function": route.function, **_place(route.where)}


def _place(where: str) -> Json:
    file, _, line = where.rpartition(":")
    return {"file": file or None, "line": int(line) if line.isdecimal() else None}
