"""From what a user declared to what an engine works with. Pure functions; the resource stays as written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from runpod_flash.errors import ConfigError, call_site, shown
from runpod_flash.model.endpoint import EndpointSpec, GpuRequest, Mount, Origin, ScalerKind, is_endpoint_id
from runpod_flash.model.hardware import ServerlessScalerType
from runpod_flash.model.job import DEFAULT_TIMEOUT_MS
from runpod_flash.model.resources import CpuFields, GpuFields, Resource, read_gpu, read_instance
from runpod_flash.model.value import HIGHEST, Value, is_duration
from runpod_flash.model.volumes import Env, PodTemplate, VolumeId, port_number, read_env

LONGEST_S: Final = 1e12
"""Seconds beyond which nobody waits for the difference."""
LB_CONCURRENCY_ASYNC: Final = 100
LB_CONCURRENCY_SYNC: Final = 8

NO_EFFECT_HERE: Final = frozenset(
    {
        *("imageName", "templateId", "flashboot", "cudaVersions", "minCudaVersion", "datacenter", "locations", "id"),
        *("workersPFBTarget", "python_version"),
    }
)
"""Fields that mean something to a cloud, and nothing on the user's own machines."""
NO_EFFECT_IN_TEMPLATES: Final = frozenset(
    {
        *("name", "imageName", "containerDiskInGb", "ports", "startScript", "dockerArgs"),
        *("advancedStart", "config", "containerRegistryAuthId"),
    }
)
"""The same of a PodTemplate."""


@dataclass(frozen=True, slots=True)
class MachineShare:
    """What one worker gets of a machine: the part of a PoolSpec that the resource decides."""

    gpus: tuple[GpuRequest, ...]
    cpus: float
    cpu_limit: float | None
    memory_mb: int | None
    mounts: tuple[Mount, ...]
    ports: tuple[int, ...]


def resolve_endpoint(resource: Resource, app: str, env: str, origin: Origin = "script") -> EndpointSpec:
    """The endpoint that `resource` declares in the environment `env` of `app`."""
    return EndpointSpec(
        app=app,
        env=env,
        name=resource.name,
        kind="queue" if resource.is_queue else "lb",
        workers_min=min(resource.workersMin, HIGHEST),
        workers_max=min(resource.workersMax, HIGHEST),
        idle_timeout_s=min(resource.idleTimeout, LONGEST_S),
        scaler=resolve_scaler(resource),
        scaler_value=min(resource.scalerValue, HIGHEST),
        origin=origin,
        execution_timeout_ms=min(resource.executionTimeoutMs or 0, HIGHEST) or None,
    )


def resolve_share(resource: Resource) -> MachineShare:
    """Cards, CPUs, memory, volumes and ports of one worker."""
    return MachineShare(
        gpus=resolve_gpus(resource),
        cpus=resolve_cpus(resource),
        cpu_limit=resolve_cpu_limit(resource),
        memory_mb=resolve_memory_mb(resource),
        mounts=resolve_mounts(resource),
        ports=resolve_ports(resource),
    )


def resolve_scaler(resource: Resource) -> ScalerKind:
    """What the number of workers follows; not given: a queue's delay, the requests in flight over HTTP."""
    if resource.scalerType is None:
        return "QUEUE_DELAY" if resource.is_queue else "REQUEST_COUNT"
    return "QUEUE_DELAY" if resource.scalerType == ServerlessScalerType.QUEUE_DELAY else "REQUEST_COUNT"


def resolve_gpus(resource: Resource) -> tuple[GpuRequest, ...]:
    """The alternatives, preferred first; empty for CPU workers.

    Distinct members are alternatives, a repeated member is a count: [A, A, B] means two A, or else one B.
    `gpuCount` replaces the counts.
    """
    if not isinstance(resource, GpuFields) or resource.instanceIds is not None:
        return ()
    wanted = [found.value for gpu in resource.gpus or ["any"] if (found := read_gpu(gpu))]
    counts = Counter(wanted)  # remembers the order in which members came first
    asked = min(resource.gpuCount or 0, HIGHEST)
    return tuple(GpuRequest(name, asked or count) for name, count in counts.items())


def resolve_cpus(resource: Resource) -> float:
    """vCPUs of one worker: what the resource says, else its instance type, else its template, else 1."""
    if isinstance(resource, CpuFields) and "cpuCount" in resource.given:
        return _instance_or_count(resource.cpuCount)[0]
    if resource.instanceIds:
        return _instance_or_count(resource.instanceIds[0])[0]
    template = pod_template(resource)
    return float(min(template.cpu_count, HIGHEST)) if template and template.cpu_count else 1


def resolve_cpu_limit(resource: Resource) -> float | None:
    """vCPUs that one worker is held to: those that somebody wrote down. The default of 1 is no wish for only one."""
    template = pod_template(resource)
    asked = resource.instanceIds or "cpuCount" in resource.given or (template and template.cpu_count)
    return resolve_cpus(resource) if asked else None


def resolve_memory_mb(resource: Resource) -> int | None:
    """The limit on one worker's memory in MiB: its template's, else its instance type's, else none."""
    template = pod_template(resource)
    if template and template.memory_gb:
        return max(1, round(min(template.memory_gb, HIGHEST / 1024) * 1024))
    sizes = [resource.cpuCount] if isinstance(resource, CpuFields) else []
    for size in (*sizes, *(resource.instanceIds or ())[:1]):
        if gigabytes := _instance_or_count(size)[1]:
            return gigabytes * 1024
    return None


def resolve_concurrency(resource: Resource, *, is_async: bool) -> int:
    """How many calls a worker takes at once: one from a queue; many over HTTP, unless they share a card."""
    if resource.is_queue:
        return 1
    if resource.max_concurrency is not None:
        return min(resource.max_concurrency, HIGHEST)
    if resolve_gpus(resource):
        return 1
    return LB_CONCURRENCY_ASYNC if is_async else LB_CONCURRENCY_SYNC


def resolve_mounts(resource: Resource) -> tuple[Mount, ...]:
    """The volume that workers see, if there is one. An id that remembers its volume brings path and size."""
    if resource.networkVolumeId is None and resource.networkVolume is None:
        return ()
    named = resource.networkVolumeId
    volume = named.volume if isinstance(named, VolumeId) else resource.networkVolume
    if volume is None:
        return (Mount(str(named), make=False),)
    size = None if volume.size is None else min(volume.size, HIGHEST)
    return (Mount(str(volume.id), volume.mount_path, size, make=bool(volume.name)),)


def resolve_ports(resource: Resource) -> tuple[int, ...]:
    """The ports that workers open, in the order they were written."""
    template = pod_template(resource)
    numbers = (port_number(port) for port in (template.expose_ports if template else ()))
    return tuple(dict.fromkeys(number for number in numbers if number))


def pod_template(resource: Resource) -> PodTemplate | None:
    """The template of `resource`, by either of its names."""
    return resource.podTemplate if resource.podTemplate is not None else resource.template


def merge_env(resource: Resource, function_env: Env | None = None) -> dict[str, str | None]:
    """The variables of a worker: template < resource < `@remote`. None stands for the caller's own value."""
    template = pod_template(resource)
    merged = read_env(template.env, "PodTemplate") if template else {}
    merged.update(read_env(resource.env, type(resource).__name__))
    merged.update(read_env(function_env, "@remote"))
    return merged


def resolve_timeout_ms(timeout_s: float | None, resource: Resource) -> int:
    """The time of one attempt: `@remote`'s if it was given, else the resource's, else an hour."""
    if timeout_s is not None:
        return seconds_to_ms("timeout", timeout_s)
    return min(resource.executionTimeoutMs or DEFAULT_TIMEOUT_MS, HIGHEST)


def seconds_to_ms(field: str, seconds: float) -> int:
    """Whole milliseconds, at least one; a `ConfigError` for what is no positive number of seconds."""
    if is_duration(seconds) and seconds > 0:
        return max(1, round(min(seconds, HIGHEST // 1000) * 1000))
    raise ConfigError(
        f"{field}={shown(seconds)} is not possible",
        where=call_site(),
        why=f"{field} must be a number of seconds above 0",
    )


def without_effect(resource: Resource) -> tuple[str, ...]:
    """The given fields that change nothing on the user's own machines, for a notice that says so once."""
    template = pod_template(resource)
    inner = _given(template, NO_EFFECT_IN_TEMPLATES) if template else []
    ours = resource.id is not None and is_endpoint_id(resource.id)
    idle = NO_EFFECT_HERE | ({"max_concurrency"} if resource.is_queue else set())
    outer = [name for name in _given(resource, idle) if not (name == "id" and ours)]
    return (*outer, *(f"PodTemplate.{name}" for name in inner))


def _given(value: Value, names: Container[str]) -> list[str]:
    return [name for name, one in value.given.items() if name in names and one is not None]


def _instance_or_count(size: object) -> tuple[int, int]:
    """vCPUs and GB (0: no limit) of an instance type or a plain number."""
    if isinstance(size, int):
        return min(size, HIGHEST), 0
    return read_instance(size) or (1, 0)
