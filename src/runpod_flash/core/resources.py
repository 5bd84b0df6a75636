"""The resource classes and what belongs to them, under the name that earlier programs import."""

from runpod_flash.model.hardware import (
    CpuInstanceType,
    CudaVersion,
    DataCenter,
    GpuGroup,
    GpuType,
    ServerlessScalerType,
    ServerlessType,
)
from runpod_flash.model.output import JobOutput
from runpod_flash.model.resources import (
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    CpuLoadBalancerSlsResource,
    CpuServerlessEndpoint,
    LiveLoadBalancer,
    LiveServerless,
    LoadBalancerSlsResource,
    ServerlessEndpoint,
)
from runpod_flash.model.volumes import KeyValuePair, NetworkVolume, PodTemplate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runpod_flash.client.endpoints import ResourceManager

__all__ = [
    "CpuInstanceType",
    "CpuLiveLoadBalancer",
    "CpuLiveServerless",
    "CpuLoadBalancerSlsResource",
    "CpuServerlessEndpoint",
    "CudaVersion",
    "DataCenter",
    "GpuGroup",
    "GpuType",
    "JobOutput",
    "KeyValuePair",
    "LiveLoadBalancer",
    "LiveServerless",
    "LoadBalancerSlsResource",
    "NetworkVolume",
    "PodTemplate",
    "ResourceManager",
    "ServerlessEndpoint",
    "ServerlessScalerType",
    "ServerlessType",
]


def __getattr__(name: str) -> object:
    if name != "ResourceManager":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runpod_flash.client.endpoints import ResourceManager  # noqa: PLC0415 - loads what talks to an engine

    return ResourceManager
