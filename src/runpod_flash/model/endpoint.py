"""What an engine needs to know about a resource: endpoints, pools of equal workers, and their names.

Provider-neutral and frozen. The dataclasses travel in messages as they are.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from runpod_flash.errors import ConfigError, call_site, shown

EndpointKind = Literal["queue", "lb"]
ScalerKind = Literal["QUEUE_DELAY", "REQUEST_COUNT"]
Protocol = Literal["jobs", "http"]
Origin = Literal["script", "deployed", "served"]
"""Who declared an endpoint: a program that calls, `flash deploy`, or `flash serve --detach`. The last two stay."""

OWN_DISTRIBUTIONS: Final = frozenset({"runpod-flash", "tetra-rp", "flash-anywhere"})
"""Requirements of these names mean this package, which every worker has; they are never installed."""


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint: who it is, (app, env, name), and how far it scales."""

    app: str
    env: str
    name: str
    kind: EndpointKind = "queue"
    workers_min: int = 0
    workers_max: int = 3
    idle_timeout_s: float = 300
    scaler: ScalerKind = "QUEUE_DELAY"
    scaler_value: int = 4
    origin: Origin = "script"
    execution_timeout_ms: int | None = None

    @property
    def id(self) -> str:
        """The public id, the same wherever and whenever this endpoint is declared."""
        return endpoint_id(self.app, self.env, self.name)

    @property
    def is_withdrawn(self) -> bool:
        """Whether it was taken away; what waits there is kept for when it comes back."""
        return self.workers_max == 0


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """`count` cards of one kind: the value of a GpuGroup or a GpuType, or "any"."""

    name: str = "any"
    count: int = 1


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume, by its name or id, and where its workers see it."""

    volume: str
    path: str = "/runpod-volume"
    size_gb: int | None = None
    make: bool = True  # unless it is there; a volume that was only named has to be


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """The caller's copies of what a worker of ours needs beside the user's packages.

    `key` names their contents; the others are their version and paths on the caller's machine.
    """

    key: str
    version: str
    package: str  # the folder runpod_flash
    cloudpickle: str
    msgspec: str
    tomli: str = ""  # on Python 3.10: a worker reads pyproject.toml where its code is of an app that has one


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the user's own that workers run in place of our loop, and how it gets its work.

    `jobs`: it asks for jobs over HTTP, as workers for Runpod do (RUNPOD_WEBHOOK_GET_JOB …); for endpoints of kind
    queue. `http`: it serves HTTP at PORT; for those of kind lb.
    """

    command: tuple[str, ...]  # a first word `python` is the environment's
    folder: str  # where it lies on this machine: absolute; its entries appear in the worker's working folder
    digest: str  # of its files: other contents are other workers
    protocol: Protocol = "jobs"


@dataclass(frozen=True, slots=True)
class Application:
    """An ASGI application that the workers of a pool serve, instead of functions.

    `version` names what lies in the folder: another one means other workers.
    """

    target: str  # "main:app": a module, and the name of the application in it; "main:make()" calls a function for it
    folder: str  # where its modules are found; its entries appear in the worker's working folder
    version: str = ""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Workers that are interchangeable: same environment, machine share, variables and code of ours."""

    interpreter: str  # the caller's sys._base_executable
    abi: str  # such as cpython-311-x86_64-linux-gnu
    runtime: RuntimeSpec
    requirements: tuple[str, ...] = ()  # normalised and sorted
    system: tuple[str, ...] = ()  # Debian package names, sorted
    gpus: tuple[GpuRequest, ...] = ()  # alternatives, the preferred one first; empty: no card
    cpus: float = 1
    cpu_limit: float | None = None  # what a worker is held to; None: it may use what is free
    memory_mb: int | None = None  # None: no limit of its own
    variables: dict[str, str] = field(default_factory=dict)  # the function's, in the clear
    base_env: dict[str, str] = field(default_factory=dict)  # from the caller: PATH, HOME, LANG …
    concurrency: int = 1  # calls a worker takes at once
    index: dict[str, str] = field(default_factory=dict)  # package index settings, UV_INDEX_URL …
    mounts: tuple[Mount, ...] = ()
    ports: tuple[int, ...] = ()
    accelerate: bool = False  # how packages are fetched, which changes nothing of what they are: in no key
    mirror: str = ""  # an index to fetch them from first
    program: Program | None = None  # what its workers run; None: our loop
    application: Application | None = None
    release: str = ""  # deployed: what its code and secrets were then, so that others get workers of their own

    @property
    def asks(self) -> bool:
        """Whether its workers are programs that ask for their jobs."""
        return self.program is not None and self.program.protocol == "jobs"

    @property
    def serves(self) -> bool:
        """Whether its workers answer HTTP by an application or a program, instead of functions."""
        return self.application is not None or (self.program is not None and self.program.protocol == "http")

    def environment_key(self) -> str:
        """Names what has to be installed, so that it is installed once. See `environment_key`."""
        return environment_key(self)


def endpoint_id(app: str, env: str, name: str) -> str:
    """`ep` and 14 characters of lower-case base32: stable, so URLs survive engines and machines."""
    digest = hashlib.sha256(f"{app}\0{env}\0{name}".encode()).digest()
    return "ep" + base64.b32encode(digest)[:14].decode().lower()


def is_endpoint_id(text: str) -> bool:
    """Whether `text` could be one of them."""
    return re.fullmatch(r"ep[a-z2-7]{14}", text) is not None


def environment_key(pool: PoolSpec) -> str:
    """32 hex digits for the request behind an environment: interpreter, packages, and where they come from.

    Credentials in index URLs do not count: a new token finds the same packages.
    """
    request = {
        "interpreter": pool.interpreter,
        "abi": pool.abi,
        "requirements": pool.requirements,
        "system": pool.system,
        "index": {name: without_credentials(value) for name, value in pool.index.items()},
    }
    return _digest(request)


def pool_key(pool: PoolSpec, secret: bytes) -> str:
    """32 hex digits for everything that makes workers interchangeable.

    Values of variables enter only through a keyed hash: a key that is seen tells nobody what they are.
    """
    identity = {
        "environment": environment_key(pool),
        "runtime": pool.runtime.key,
        "gpus": [(gpu.name, gpu.count) for gpu in pool.gpus],
        "cpus": float(pool.cpus),
        "cpu_limit": pool.cpu_limit,
        "memory_mb": pool.memory_mb,
        "variables": _sealed(pool.variables, secret),
        "base_env": _sealed(pool.base_env, secret),
        "index": _sealed(pool.index, secret),
        "concurrency": pool.concurrency,
        "mounts": [(mount.volume, mount.path) for mount in pool.mounts],
        "ports": pool.ports,
    }
    if pool.release:
        identity["release"] = pool.release
    if pool.program is not None:  # not for the others, whose keys are on record without it
        identity["program"] = dataclasses.astuple(pool.program)
    if pool.application is not None:
        identity["application"] = dataclasses.astuple(pool.application)
    return _digest(identity)


def without_credentials(url: str) -> str:
    """`url`, or a list of them, without the part that logs in: `https://me:token@host/` → `https://host/`."""
    return re.sub(r"://[^/@\s]*@", "://", url)


def _sealed(variables: Mapping[str, str], secret: bytes) -> dict[str, str]:
    return {name: _seal(f"{name}\0{value}", secret) for name, value in variables.items()}


def _seal(text: str, secret: bytes) -> str:
    return hmac.new(secret, text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _digest(identity: object) -> str:
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


# ── packages ──────────────────────────────────────────────────────────────────────────────────────

_NAMED = re.compile(r"^(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?P<extras>\[[^\]]*\])?\s*(?P<rest>.*)$")


def normalise_requirements(requirements: Iterable[str]) -> tuple[str, ...]:
    """Requirement strings in one spelling, sorted, each once, so that equal sets share an environment.

    Names as in PEP 503, extras and version clauses sorted, no needless blanks. Names that mean this package
    are left out. What does not read as a requirement stays as it is: the resolver has the better message.
    """
    if isinstance(requirements, str):
        raise ConfigError(
            f"dependencies={shown(requirements)} is not possible",
            where=call_site(),
            why="it must be a list of requirement strings",
            fix=f"write dependencies=[{shown(requirements)}]",
        )
    spelled = {_normalise_requirement(one) for one in requirements}
    return tuple(sorted(spelled - {""}))


def normalise_packages(packages: Iterable[str]) -> tuple[str, ...]:
    """System package names without blanks, sorted, each once."""
    if isinstance(packages, str):
        raise ConfigError(
            f"system_dependencies={shown(packages)} is not possible",
            where=call_site(),
            why="it must be a list of package names",
            fix=f"write system_dependencies=[{shown(packages)}]",
        )
    return tuple(sorted({_text("system_dependencies", one) for one in packages} - {""}))


def _normalise_requirement(requirement: str) -> str:
    text = _text("dependencies", requirement)
    found = _NAMED.match(text)
    if found is None or (found["rest"] and found["rest"][0] not in "<>=!~;@("):
        return text
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    if name in OWN_DISTRIBUTIONS:
        return ""
    return name + _normalise_extras(found["extras"] or "") + _normalise_rest(found["rest"])


def _normalise_extras(extras: str) -> str:
    names = sorted({re.sub(r"[-_.]+", "-", one).strip().lower() for one in extras.strip("[]").split(",")} - {""})
    return f"[{','.join(names)}]" if names else ""


def _normalise_rest(rest: str) -> str:
    if rest.startswith("@"):
        return " @ " + " ".join(rest[1:].split())
    clauses, _, marker = rest.partition(";")
    versions = sorted("".join(clause.split()) for clause in clauses.strip(" ()").split(","))
    suffix = f" ; {' '.join(marker.split())}" if marker.strip() else ""
    return ",".join(version for version in versions if version) + suffix


def _text(argument: str, value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    raise ConfigError(
        f"{argument} contains {shown(value)}",
        where=call_site(),
        why=f"every item must be a string, not {type(value).__name__}",
    )
