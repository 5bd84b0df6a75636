"""Flash: decorate a function with `@remote`, await it, and it runs on a worker in its own environment.

The rooms, bottom to top; each uses only those above it in this list:

    errors, settings    one tree of errors; every variable, read once
    installation        whether other distributions have written over this one
    model               nouns, frozen, no I/O: hardware, resources, endpoints and pools, jobs, JobOutput
    check               what a call would refuse or warn about, found in source files
    wire                frames, messages, the worker's status page, blob files
    web                 what gateway and apps show browsers: documentation, trusted names
    payload             what only the two ends open: pickles, definitions by digest, exceptions
    worker              the program that runs user code, and the zygote that it is forked from
    client              asks: remote functions, scope analysis, handles, transports, starting the engine
    apps                applications of users: made, found in folders, served
    host                what a machine that runs workers does: processes, environments, logs
    providers           places where hosts can be started
    engine              decides: store, queue, dispatcher, plan
    daemon              puts engine, store and provider together and runs them
    cli                 the command `flash`

{payload, worker, client} and {host, providers, engine, daemon} never import each other: they meet in model
and wire. Every public name is here and is loaded when it is first used, so importing this package costs
nothing.
"""

from __future__ import annotations

from importlib import import_module

from runpod_flash._version import __version__

TYPE_CHECKING = False  # type checkers take it for typing's; importing that would double the time of this import
if TYPE_CHECKING:
    from runpod_flash.apps.flash_app import FlashApp
    from runpod_flash.client.endpoints import ResourceManager
    from runpod_flash.client.job import EndpointJob, JobHandle
    from runpod_flash.client.remote import remote
    from runpod_flash.errors import (
        ConfigError,
        DependencyError,
        EncodingError,
        EngineError,
        EngineRefused,
        EngineUnavailable,
        FlashError,
        ImmutableError,
        JobCancelled,
        JobNotFound,
        JobTimeout,
        MissingVariableError,
        QueueFull,
        RemoteError,
        ScopeError,
        StoreError,
        SystemPackageError,
        UsageError,
        WorkerLost,
    )
    from runpod_flash.model.hardware import (
        CpuInstanceType,
        CudaVersion,
        DataCenter,
        GpuGroup,
        GpuType,
        ServerlessScalerType,
        ServerlessType,
    )
    from runpod_flash.model.job import JobStatus
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
    from runpod_flash.worker.progress import progress

_HOMES = {
    "client.remote": ("remote",),
    "client.job": ("EndpointJob", "JobHandle"),
    "client.endpoints": ("ResourceManager",),
    "apps.flash_app": ("FlashApp",),
    "errors": (
        "ConfigError",
        "DependencyError",
        "EncodingError",
        "EngineError",
        "EngineRefused",
        "EngineUnavailable",
        "FlashError",
        "ImmutableError",
        "JobCancelled",
        "JobNotFound",
        "JobTimeout",
        "MissingVariableError",
        "QueueFull",
        "RemoteError",
        "ScopeError",
        "StoreError",
        "SystemPackageError",
        "UsageError",
        "WorkerLost",
    ),
    "model.hardware": (
        "CpuInstanceType",
        "CudaVersion",
        "DataCenter",
        "GpuGroup",
        "GpuType",
        "ServerlessScalerType",
        "ServerlessType",
    ),
    "model.job": ("JobStatus",),
    "model.output": ("JobOutput",),
    "model.resources": (
        "CpuLiveLoadBalancer",
        "CpuLiveServerless",
        "CpuLoadBalancerSlsResource",
        "CpuServerlessEndpoint",
        "LiveLoadBalancer",
        "LiveServerless",
        "LoadBalancerSlsResource",
        "ServerlessEndpoint",
    ),
    "model.volumes": ("KeyValuePair", "NetworkVolume", "PodTemplate"),
    "worker.progress": ("progress",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "ConfigError",
    "CpuInstanceType",
    "CpuLiveLoadBalancer",
    "CpuLiveServerless",
    "CpuLoadBalancerSlsResource",
    "CpuServerlessEndpoint",
    "CudaVersion",
    "DataCenter",
    "DependencyError",
    "EncodingError",
    "EndpointJob",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "FlashApp",
    "FlashError",
    "GpuGroup",
    "GpuType",
    "ImmutableError",
    "JobCancelled",
    "JobHandle",
    "JobNotFound",
    "JobOutput",
    "JobStatus",
    "JobTimeout",
    "KeyValuePair",
    "LiveLoadBalancer",
    "LiveServerless",
    "LoadBalancerSlsResource",
    "MissingVariableError",
    "NetworkVolume",
    "PodTemplate",
    "QueueFull",
    "RemoteError",
    "ResourceManager",
    "ScopeError",
    "ServerlessEndpoint",
    "ServerlessScalerType",
    "ServerlessType",
    "StoreError",
    "SystemPackageError",
    "UsageError",
    "WorkerLost",
    "__version__",
    "progress",
    "remote",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
