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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import ClassVar, Final, TypeAlias, cast

from runpod_flash.errors import UsageError, call_site, did_you_mean, shown
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
    Rule,
    Value,
    is_count,
    is_duration,
    is_flag,
    is_name,
    is_some,
    is_text,
    refusal,
    sealed,
)
from runpod_flash.model.volumes import VOLUME_NAME, Env, NetworkVolume, PodTemplate, is_volume_name, read_env

Gpu: TypeAlias = GpuGroup | GpuType | str

ANY_GPU: Final = FrozenList([GpuGroup.ANY])
"""What GPU classes ask for unless they are told otherwise."""

NAME: Final = Rule("a non-empty string without line breaks", is_name)
TEXT: Final = Rule("a non-empty string", is_text)
FLAG: Final = Rule("True or False", is_flag)
COUNT: Final = Rule("a whole number, 0 or more", lambda value: is_count(value, 0))
AMOUNT: Final = Rule("a whole number, 1 or more", lambda value: is_count(value, 1))


def _one_of(kind: Iterable[ServerlessScalerType]) -> Rule:
    choices = [member.value for member in kind]
    return Rule(f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)


def _all(holds: Callable[[object], bool], values: object) -> bool:
    return is_some(values) and all(holds(value) for value in cast("Sequence[object]", values))


def _is_version(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\d+){1,2}", value) is not None


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

    rules: ClassVar[Mapping[str, Rule]] = {
        "name": NAME,
        "workersMin": COUNT,
        "workersMax": AMOUNT,
        "idleTimeout": Rule("a number of seconds, 0 or more", is_duration),
        "networkVolumeId": Rule(f"the name or id of a volume: {VOLUME_NAME}", is_volume_name),
        "networkVolume": Rule("a NetworkVolume", lambda value: isinstance(value, NetworkVolume)),
        "podTemplate": Rule("a PodTemplate", lambda value: isinstance(value, PodTemplate)),
        "template": Rule("a PodTemplate", lambda value: isinstance(value, PodTemplate)),
        "templateId": TEXT,
        "imageName": TEXT,
        "scalerType": _one_of(ServerlessScalerType),
        "scalerValue": AMOUNT,
        "executionTimeoutMs": COUNT,
        "max_concurrency": AMOUNT,
        "flashboot": FLAG,
        "datacenter": Rule("a DataCenter, or a list of them", lambda value: is_text(value) or _all(is_text, value)),
        "locations": TEXT,
        "type": Rule("QB or LB, whichever is for this class", is_text),
        "id": TEXT,
        "workersPFBTarget": COUNT,
        "python_version": Rule('a version of Python, such as "3.12"', _is_version),
    }

    def __post_init__(self) -> None:
        if not hasattr(self, "is_spot"):
            raise self._abstract()
        super().__post_init__()
        if "workersMax" not in self.given:
            object.__setattr__(self, "workersMax", max(3, self.workersMin))
        if self.workersMin > self.workersMax:
            raise self._refuse_field("workersMin", f"at most workersMax={self.workersMax}")
        read_env(self.env, type(self).__name__)
        self._check_kind()
        self._check_alternatives()

    @classmethod
    def _abstract(cls) -> UsageError:
        return UsageError(
            f"{cls.__name__} cannot be made",
            where=call_site(),
            why="it is what several resource classes have in common, and says not enough to run a function",
            fix="use one of the eight, such as LiveServerless or CpuLiveServerless",
        )

    def _check_kind(self) -> None:
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

    def _check_kind(self) -> None:
        super()._check_kind()
        if self.scalerType == ServerlessScalerType.QUEUE_DELAY:
            raise self._refuse_field("scalerType", "REQUEST_COUNT: there is no queue whose delay could be measured")


@dataclass(frozen=True, repr=False)
class GpuFields(Resource):
    """What the GPU classes have besides: which cards, how many, and what their driver has to support."""

    _: KW_ONLY
    # Distinct members are alternatives in order, a repeated member is a count.
    gpus: Sequence[Gpu] | None = field(default_factory=lambda: ANY_GPU)
    gpuCount: int | None = None
    cudaVersions: Sequence[CudaVersion | str] | None = None
    minCudaVersion: CudaVersion | str | None = None

    rules: ClassVar[Mapping[str, Rule]] = {
        **Resource.rules,
        "gpuCount": AMOUNT._replace(fix="for no GPU at all use a CPU class"),
        "cudaVersions": Rule("a list of CudaVersion", lambda value: _all(_is_version, value)),
        "minCudaVersion": Rule('a CudaVersion, such as "12.8"', _is_version),
    }

    is_cpu = False

    @classmethod
    def _unknown(cls, name: str, value: object) -> Exception:
        if name not in _names_of(CpuFields):
            return super()._unknown(name, value)
        fix = f"write podTemplate=PodTemplate(cpu_count={shown(value)}), or use a CPU class"
        return refusal(cls.__name__, name, value, "left out on a GPU class", fix)

    def _check_alternatives(self) -> None:
        super()._check_alternatives()
        if self.gpus is not None:
            self._check_gpus(self.gpus)
        for name in ("gpus", "gpuCount"):
            # dataclasses.replace() writes out what was not given: our own list is no wish of the user's.
            written = self.given.get(name)
            if self.instanceIds is not None and written is not None and written is not ANY_GPU:
                raise self._refuse_field("instanceIds", f"left out where {name} is given: it asks for CPU workers")

    def _check_gpus(self, gpus: Sequence[Gpu]) -> None:
        if not is_some(gpus):
            raise self._refuse_field("gpus", "a non-empty list of GpuGroup or GpuType", "write gpus=[GpuGroup.ANY]")
        for gpu in gpus:
            if read_gpu(gpu) is None:
                names = [member.value for kind in (GpuGroup, GpuType) for member in kind]
                meant = did_you_mean(str(gpu), names) if is_text(gpu) else ""
                raise refusal(type(self).__name__, "gpus", [gpu], f"made of GpuGroup and GpuType members.{meant}")


@dataclass(frozen=True, repr=False)
class CpuFields(Resource):
    """What the CPU classes have besides."""

    _: KW_ONLY
    cpuCount: int | CpuInstanceType | str = 1

    rules: ClassVar[Mapping[str, Rule]] = {
        **Resource.rules,
        "cpuCount": Rule(
            "a whole number, 1 or more, or a CpuInstanceType",
            lambda value: is_count(value, 1) or read_instance(value) is not None,
        ),
    }

    is_cpu = True

    @classmethod
    def _unknown(cls, name: str, value: object) -> Exception:
        if name not in _names_of(GpuFields):
            return super()._unknown(name, value)
        return refusal(cls.__name__, name, value, "left out on a CPU class", "use a GPU class, or delete the field")


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
    if not isinstance(instance, str):
        return None
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
            choices = [member.value for member in CpuInstanceType]
            meant = did_you_mean(str(instance), choices) if is_text(instance) else ""
            raise refusal(owner, "instanceIds", [instance], f"made of CpuInstanceType members.{meant}")


def _names_of(kind: type[Resource]) -> set[str]:
    """The fields that `kind` has and not every resource."""
    return {one.name for one in fields(kind)} - {one.name for one in fields(Resource)}
