"""What tells one release from another. Pure: two releases in, the changes out.

The variables that workers inherit from whoever deploys (PATH, LANG …) tell nothing: the same code from another terminal
changes nothing. Nor do digests of what is shipped, since two pickles of one function may differ; its version,
which comes from its source and all that it reaches, does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from runpod_flash.engine.served import clash
from runpod_flash.errors import ConfigError
from runpod_flash.model.endpoint import EndpointSpec, PoolSpec, pool_key
from runpod_flash.model.options import canonical
from runpod_flash.wire.messages import DeployedEndpoint, FunctionSpec

_SCALE: Final = {
    "workers_min": "workersMin",
    "workers_max": "workersMax",
    "idle_timeout_s": "idleTimeout",
    "scaler": "scalerType",
    "scaler_value": "scalerValue",
    "execution_timeout_ms": "executionTimeoutMs",
}
"""Fields of an endpoint that may change while its workers stay."""
_POOL: Final = {
    "requirements": "dependencies",
    "system": "system_dependencies",
    "gpus": "gpus",
    "cpus": "cpus",
    "cpu_limit": "cpuCount",
    "memory_mb": "memory",
    "concurrency": "max_concurrency",
    "mounts": "volumes",
    "ports": "ports",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. `what` is of the endpoint: its code, a setting, or "" for the whole of it."""

    kind: Literal["new", "changed", "removed"]
    endpoint: str
    what: str = ""
    before: str = ""
    after: str = ""


def identity(part: DeployedEndpoint, secret: bytes, secrets: str) -> str:
    """Names the code of an endpoint and all that its workers are; `secrets` is the seal of theirs."""
    found = {
        "kind": part.endpoint.kind,
        "secrets": secrets,
        "pools": [_pool_identity(pool, secret) for pool in part.pools],
        "functions": sorted((pool, *_function_identity(spec)) for pool, spec in part.functions),
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


def changes(
    before: Iterable[DeployedEndpoint],
    after: Iterable[DeployedEndpoint],
    secret: bytes,
    secrets: tuple[str, str],
) -> list[Change]:
    """What a release changes; `secrets` are the seals of the old one and of the new one."""
    old, new = _by_name(before), _by_name(after)
    found = [Change("new", name) for name in new if name not in old]
    for name in new:
        if name in old:
            found += _changed(old[name], new[name], secret, secrets)
    return [*found, *(Change("removed", name) for name in old if name not in new)]


def check_routes(parts: Iterable[DeployedEndpoint]) -> None:
    """ConfigError for two functions on one route, and for an endpoint that is there twice."""
    seen: set[str] = set()
    for part in parts:
        name = part.endpoint.name
        if name in seen:
            raise ConfigError(f"endpoint {name!r} is declared twice", fix="give one of them another name")
        seen.add(name)
        taken: dict[tuple[str, str], FunctionSpec] = {}
        for _pool, spec in part.functions:
            for route in spec.routes:
                other = taken.setdefault((route.method, canonical(route.path)), spec)
                if other is not spec:
                    raise clash(name, route, other, spec)


# ── inside ────────────────────────────────────────────────────────────────────────────────────────


def _by_name(parts: Iterable[DeployedEndpoint]) -> dict[str, DeployedEndpoint]:
    return {part.endpoint.name: part for part in sorted(parts, key=lambda part: part.endpoint.name)}


def _pool_identity(pool: PoolSpec, secret: bytes) -> str:
    return pool_key(replace(pool, base_env={}, release=""), secret)


def _function_identity(spec: FunctionSpec) -> tuple[Any, ...]:
    routes = [(route.method, route.path) for route in spec.routes]
    return spec.name, spec.version, spec.is_async, spec.timeout_ms, routes


def _changed(old: DeployedEndpoint, new: DeployedEndpoint, secret: bytes, secrets: tuple[str, str]) -> Iterable[Change]:
    name = new.endpoint.name
    found = [*_scale(old.endpoint, new.endpoint)]
    if identity(old, secret, secrets[0]) == identity(new, secret, secrets[1]):
        return found
    inside = [*_functions(old, new), *_pools(old, new, secret)]
    if old.endpoint.kind != new.endpoint.kind:
        inside.append(Change("changed", name, "kind", old.endpoint.kind, new.endpoint.kind))
    if secrets[0] != secrets[1]:
        inside.append(Change("changed", name, "secrets"))
    return [*found, *(inside or [Change("changed", name, "code")])]


def _scale(old: EndpointSpec, new: EndpointSpec) -> Iterable[Change]:
    for field, called in _SCALE.items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield Change("changed", new.name, called, _text(before), _text(after))


def _functions(old: DeployedEndpoint, new: DeployedEndpoint) -> Iterable[Change]:
    name = new.endpoint.name
    before = {spec.name: spec for _pool, spec in old.functions}
    after = {spec.name: spec for _pool, spec in new.functions}
    for one, spec in after.items():
        if one not in before:
            yield Change("changed", name, f"function {_short(one)}", "", "new")
        elif before[one].version != spec.version:
            yield Change("changed", name, f"code of {_short(one)}")
        elif _function_identity(before[one]) != _function_identity(spec):
            yield Change("changed", name, f"options of {_short(one)}")
    for one in before:
        if one not in after:
            yield Change("changed", name, f"function {_short(one)}", "", "removed")


def _pools(old: DeployedEndpoint, new: DeployedEndpoint, secret: bytes) -> Iterable[Change]:
    """Where functions run. Pools have no names, so those of functions that stay are compared."""
    name = new.endpoint.name
    before = {spec.name: old.pools[pool] for pool, spec in old.functions}
    after = {spec.name: new.pools[pool] for pool, spec in new.functions}
    told: dict[Change, None] = {}
    for one in before.keys() & after.keys():
        mine, theirs = before[one], after[one]
        if _pool_identity(mine, secret) != _pool_identity(theirs, secret):
            told |= dict.fromkeys(_pool(name, mine, theirs))
    return sorted(told, key=lambda change: (change.what, change.before, change.after))


def _pool(name: str, old: PoolSpec, new: PoolSpec) -> Iterable[Change]:
    for field, called in _POOL.items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield Change("changed", name, called, _text(before), _text(after))
    yield from _variables(name, old.variables, new.variables)
    if (old.interpreter, old.abi) != (new.interpreter, new.abi):
        yield Change("changed", name, "Python", old.abi, new.abi)
    if old.runtime.key != new.runtime.key:
        yield Change("changed", name, "Flash", old.runtime.version, new.runtime.version)
    if old.index != new.index:
        yield Change("changed", name, "package index")


def _variables(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[Change]:
    """By their names: a value may be one that nobody else should read."""
    for one in sorted(old.keys() | new.keys()):
        if old.get(one) != new.get(one):
            after = "removed" if one not in new else "new" if one not in old else ""
            yield Change("changed", name, f"env {one}", "", after)


def _short(name: str) -> str:
    return name.partition(":")[2] or name


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(_text(one) for one in value) or "none"
    if hasattr(value, "__dataclass_fields__"):
        return " ".join(str(getattr(value, field)) for field in value.__dataclass_fields__)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
