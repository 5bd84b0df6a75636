"""The eight classes by which users declare what their functions run on.

    Resource
    ├── QueueResource                      calls wait in a durable queue; they return a JobOutput
    │   ├── LiveServerless                 GPU, development
    │   ├── CpuLiveServerless              CPU, development
    │   ├── ServerlessEndpoint             GPU, production
    │   └── CpuServerlessEndpoint          CPU, production
    └── LoadBalancedResource               calls go straight to a worker; they return the bare value
        ├── LiveLoadBalancer               GPU, development
        ├── CpuLiveLoadBalancer            CPU, development
        ├── LoadBalancerSlsResource        GPU, production
        └── CpuLoadBalancerSlsResource     CPU, production

All are immutable values: constructing one checks it and does nothing else. What they mean is in `resolve`.
Development and production differ in how a cloud bills them (spot, on-demand), not in behaviour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import ClassVar, TypeAlias

from runpod_flash.errors import did_you_mean
from runpod_flash.model.hardware import (
    CpuInstanceType,
    CudaVersion,
    DataCenter,
    GpuGroup,
    GpuType,
    ServerlessScalerType,
    ServerlessType,
)
from runpod_flash.model.value import (
    FrozenList,
    Value,
    is_count,
    is_duration,
    is_some,
    is_text,
    refusal,
    sealed,
)
from runpod_flash.model.volumes import Env, NetworkVolume, PodTemplate, read_env

Gpu: TypeAlias = GpuGroup | GpuType | str


@dataclass(frozen=True, repr=False)
class Resource(Value):
    """What all eight have. Times in seconds where the name does not say otherwise."""

    name: str
    _: KW_ONLY
    workersMin: int = 0
    workersMax: int = 3  # not given: at least workersMin
    idleTimeout: float = 300
    env: Env | None = None
    networkVolumeId: str | None = None
    networkVolume: NetworkVolume | None = None
    podTemplate: PodTemplate | None = None
    template: PodTemplate | None = None  # another name for podTemplate
    templateId: str | None = None
    imageName: str | None = None
    instanceIds: Sequence[CpuInstanceType | str] | None = None
    scalerType: ServerlessScalerType | str | None = None
    scalerValue: int = 4
    executionTimeoutMs: int | None = None
    max_concurrency: int | None = None
    flashboot: bool | None = None
    datacenter: DataCenter | str | Sequence[DataCenter | str] | None = None
    locations: str | None = None
    type: ServerlessType | str | None = None
    id: str | None = None
    workersPFBTarget: int | None = None
    python_version: str | None = None

    is_queue: ClassVar[bool]
    is_cpu: ClassVar[bool]
    is_spot: ClassVar[bool]
    """Development: a cloud may run it on spare capacity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "workersMax" not in self.given and is_count(self.workersMin, 0):
            object.__setattr__(self, "workersMax", max(3, self.workersMin))
        self._check_scaling()
        self._check_values()
        self._check_alternatives()

    def _check_scaling(self) -> None:
        if not is_text(self.name):
            raise self._refuse_field("name", "a non-empty string")
        if not is_count(self.workersMin, 0):
            raise self._refuse_field("workersMin", "a whole number, 0 or more")
        if not is_count(self.workersMax, 1):
            raise self._refuse_field("workersMax", "a whole number, 1 or more")
        if self.workersMin > self.workersMax:
            raise self._refuse_field("workersMin", f"at most workersMax={self.workersMax}")
        if not is_duration(self.idleTimeout):
            raise self._refuse_field("idleTimeout", "a number of seconds, 0 or more")

    def _check_values(self) -> None:
        if not is_count(self.scalerValue, 1):
            raise self._refuse_field("scalerValue", "a whole number, 1 or more")
        for name, least in (("executionTimeoutMs", 0), ("max_concurrency", 1), ("workersPFBTarget", 0)):
            if getattr(self, name) is not None and not is_count(getattr(self, name), least):
                raise self._refuse_field(name, f"a whole number, {least} or more")
        for name, kind in (
            ("podTemplate", PodTemplate),
            ("template", PodTemplate),
            ("networkVolume", NetworkVolume),
        ):
            if not isinstance(getattr(self, name), kind | None):
                raise self._refuse_field(name, f"a {kind.__name__}")
        if self.networkVolumeId is not None and not is_text(self.networkVolumeId):
            raise self._refuse_field("networkVolumeId", "the name or id of a volume")
        read_env(self.env, type(self).__name__)
        self._check_scaler()

    def _check_scaler(self) -> None:
        possible = [kind.value for kind in ServerlessScalerType]
        if self.scalerType is not None and self.scalerType not in possible:
            raise self._refuse_field("scalerType", f"one of {', '.join(possible)}")
        own = (ServerlessType.QB if self.is_queue else ServerlessType.LB).value
        if self.type is not None and self.type != own:
            raise self._refuse_field("type", f"{own} for this class")

    def _check_alternatives(self) -> None:
        if self.networkVolume is not None and self.networkVolumeId is not None:
            raise self._refuse_field("networkVolumeId", "left out where networkVolume is given")
        if self.podTemplate is not None and self.template is not None and self.podTemplate != self.template:
            raise self._refuse_field("template", "left out where podTemplate is given")
        if self.instanceIds is not None:
            _check_instances(type(self).__name__, self.instanceIds)


class QueueResource(Resource):
    """Calls wait in a durable queue, are retried, and return a JobOutput."""

    is_queue = True


class LoadBalancedResource(Resource):
    """Calls go straight to a worker over HTTP, are never retried, and return the function's own value."""

    is_queue = False

    def _check_scaler(self) -> None:
        super()._check_scaler()
        if self.scalerType == ServerlessScalerType.QUEUE_DELAY:
            raise self._refuse_field("scalerType", "REQUEST_COUNT: there is no queue whose delay could be measured")


@dataclass(frozen=True, repr=False)
class GpuFields(Resource):
    """What the GPU classes have besides: which cards, how many, and what their driver has to support."""

    _: KW_ONLY
    # Distinct members are alternatives in order, a repeated member is a count.
    gpus: Sequence[Gpu] | None = field(default_factory=lambda: FrozenList([GpuGroup.ANY]))
    gpuCount: int | None = None
    cudaVersions: Sequence[CudaVersion | str] | None = None
    minCudaVersion: CudaVersion | str | None = None

    is_cpu = False

    @classmethod
    def _unknown(cls, name: str, value: object) -> Exception:
        if name not in _names_of(CpuFields):
            return super()._unknown(name, value)
        fix = f"write podTemplate=PodTemplate(cpu_count={value!r}), or use a CPU class"
        return refusal(cls.__name__, name, value, "left out on a GPU class", fix)

    def _check_alternatives(self) -> None:
        super()._check_alternatives()
        if self.gpus is not None:
            self._check_gpus(self.gpus)
        if self.gpuCount is not None and not is_count(self.gpuCount, 1):
            raise self._refuse_field("gpuCount", "a whole number, 1 or more", "for no GPU at all use a CPU class")
        if self.instanceIds is not None and self.given.get("gpus") is not None:
            raise self._refuse_field("instanceIds", "left out where gpus is given: it asks for CPU workers")

    def _check_gpus(self, gpus: Sequence[Gpu]) -> None:
        if not is_some(gpus):
            raise self._refuse_field("gpus", "a non-empty list of GpuGroup or GpuType", "write gpus=[GpuGroup.ANY]")
        for gpu in gpus:
            if read_gpu(gpu) is None:
                names = [member.value for kind in (GpuGroup, GpuType) for member in kind]
                meant = did_you_mean(str(gpu), names)
                raise refusal(type(self).__name__, "gpus", [gpu], f"made of GpuGroup and GpuType members.{meant}")


@dataclass(frozen=True, repr=False)
class CpuFields(Resource):
    """What the CPU classes have besides."""

    _: KW_ONLY
    cpuCount: int | CpuInstanceType | str = 1

    is_cpu = True

    @classmethod
    def _unknown(cls, name: str, value: object) -> Exception:
        if name not in _names_of(GpuFields):
            return super()._unknown(name, value)
        return refusal(cls.__name__, name, value, "left out on a CPU class", "use a GPU class, or delete the field")

    def _check_alternatives(self) -> None:
        super()._check_alternatives()
        if not is_count(self.cpuCount, 1) and read_instance(self.cpuCount) is None:
            raise self._refuse_field("cpuCount", "a whole number, 1 or more, or a CpuInstanceType")


# ── the eight ─────────────────────────────────────────────────────────────────────────────────────


@sealed
class LiveServerless(QueueResource, GpuFields):
    """Queue, GPU, development (spot)."""

    is_spot = True


@sealed
class CpuLiveServerless(QueueResource, CpuFields):
    """Queue, CPU, development (spot)."""

    is_spot = True


@sealed
class ServerlessEndpoint(QueueResource, GpuFields):
    """Queue, GPU, production (on-demand)."""

    is_spot = False


@sealed
class CpuServerlessEndpoint(QueueResource, CpuFields):
    """Queue, CPU, production (on-demand)."""

    is_spot = False


@sealed
class LiveLoadBalancer(LoadBalancedResource, GpuFields):
    """HTTP, GPU, development (spot)."""

    is_spot = True


@sealed
class CpuLiveLoadBalancer(LoadBalancedResource, CpuFields):
    """HTTP, CPU, development (spot)."""

    is_spot = True


@sealed
class LoadBalancerSlsResource(LoadBalancedResource, GpuFields):
    """HTTP, GPU, production (on-demand)."""

    is_spot = False


@sealed
class CpuLoadBalancerSlsResource(LoadBalancedResource, CpuFields):
    """HTTP, CPU, production (on-demand)."""

    is_spot = False


# ── reading what users write ──────────────────────────────────────────────────────────────────────


def read_gpu(gpu: object) -> GpuGroup | GpuType | None:
    """The member meant by a member, its value or its name; None if there is none."""
    for kind in (GpuGroup, GpuType):
        for member in kind:
            if gpu is member or (isinstance(gpu, str) and gpu in (member.value, member.name)):
                return member
    return None


def read_instance(instance: object) -> tuple[int, int] | None:
    """vCPUs and GB of a CpuInstanceType, its value or name, or of any `cpu…-<vCPUs>-<GB>`; (1, 0) for ANY."""
    text = str(instance)
    if text.upper() in CpuInstanceType.__members__:
        text = CpuInstanceType[text.upper()].value
    if text == CpuInstanceType.ANY.value:
        return 1, 0
    found = re.fullmatch(r"cpu[0-9a-z]*-([1-9]\d{0,3})-([1-9]\d{0,4})", text)
    return (int(found[1]), int(found[2])) if found else None


def _check_instances(owner: str, instances: Sequence[CpuInstanceType | str]) -> None:
    if not is_some(instances):
        raise refusal(owner, "instanceIds", instances, "a non-empty list of CpuInstanceType")
    for instance in instances:
        if read_instance(instance) is None:
            meant = did_you_mean(str(instance), [member.value for member in CpuInstanceType])
            raise refusal(owner, "instanceIds", [instance], f"made of CpuInstanceType members.{meant}")


def _names_of(kind: type[Resource]) -> set[str]:
    """The fields that `kind` has and not every resource."""
    return {one.name for one in fields(kind)} - {one.name for one in fields(Resource)}
