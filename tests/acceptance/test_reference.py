"""The programs of the reference, as they stand there, on a real engine."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    with isolated_engine() as started:
        yield started


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Any]:
    """Makes a module of a text, as a user's file is one."""

    def load(text: str) -> ModuleType:
        file = tmp_path / "app.py"
        file.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("app", file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["app"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("app", None)


EXPORTS = """
# Main decorator
from tetra_rp import remote

# Resource configuration classes (queue-based)
from tetra_rp import LiveServerless, CpuLiveServerless  # Development
from tetra_rp import ServerlessEndpoint, CpuServerlessEndpoint  # Production

# Resource configuration classes (load-balanced, HTTP)
from tetra_rp import LiveLoadBalancer, CpuLiveLoadBalancer  # Development
from tetra_rp import LoadBalancerSlsResource, CpuLoadBalancerSlsResource  # Production

# GPU and CPU specifications
from tetra_rp import GpuGroup, CpuInstanceType

# Advanced features
from tetra_rp import NetworkVolume, PodTemplate, CudaVersion, DataCenter
"""

DECLARATIONS = (
    EXPORTS
    + """
gpu_config = LiveServerless(
    name="02_ml_inference_gpu_worker",
    gpus=[GpuGroup.AMPERE_24],      # RTX A5000, 24GB
    workersMin=0,
    workersMax=3,
    idleTimeout=600,
)
cpu_config = CpuLiveServerless(
    name="01_getting_started_cpu_worker",
    cpuCount=2,                 # 2 vCPU
    workersMin=0,
    workersMax=5,
)
prod_config = ServerlessEndpoint(
    name="02_ml_inference_gpu_prod",
    gpus=[GpuGroup.AMPERE_80],  # A100 80GB for production
    workersMin=1,               # Always keep 1 warm
    workersMax=10,              # Scale to 10 under load
    idleTimeout=300,
)
lb_config = LiveLoadBalancer(
    name="03_load_balanced_gpu",
    gpus=[GpuGroup.ADA_24],     # RTX 4090, 24GB
    workersMin=1,
    workersMax=5,
    idleTimeout=30,             # Short timeout for fast-scaling
)
prod_lb_config = LoadBalancerSlsResource(
    name="03_load_balanced_prod",
    gpus=[GpuGroup.HOPPER_141],  # H200 141GB for production
    workersMin=2,                # Always 2 warm
    workersMax=20,               # Scale aggressively
)
multi = LiveServerless(
    name="multi_gpu_example",
    gpus=[GpuGroup.AMPERE_80, GpuGroup.AMPERE_80],  # 2x A100 80GB
)
cpu = CpuLiveServerless(
    name="cpu_processing",
    cpuCount=8,  # Or use CpuInstanceType if needed
)
volume = NetworkVolume(
    name="model_storage",
    mount_path="/models",  # Available at /models in worker
)
with_volume = LiveServerless(
    name="ml_inference",
    gpus=[GpuGroup.AMPERE_80],
    networkVolumeId=volume.id,  # Mount the volume
)
pod_template = PodTemplate(
    # Custom resource limits
    memory_gb=40,
    cpu_count=8,
    # Custom networking
    expose_ports=["8080", "8081"],
)
custom = LiveServerless(
    name="custom_pod",
    gpus=[GpuGroup.ANY],
    podTemplate=pod_template,
)
"""
)


def test_the_declarations_of_the_reference_are_taken_as_they_stand(program: Any) -> None:
    from runpod_flash.model.endpoint import GpuRequest, Mount
    from runpod_flash.model.resolve import resolve_cpus, resolve_gpus, resolve_memory_mb, resolve_mounts, resolve_ports

    app = program(DECLARATIONS)
    assert resolve_gpus(app.multi) == (GpuRequest("AMPERE_80", 2),)
    assert resolve_cpus(app.cpu) == 8
    assert resolve_mounts(app.with_volume) == (Mount("model_storage", "/models"),)
    assert (resolve_memory_mb(app.custom), resolve_ports(app.custom)) == (40 * 1024, (8080, 8081))
    assert (app.prod_config.workersMin, app.prod_config.workersMax, app.prod_config.idleTimeout) == (1, 10, 300)
    assert (app.gpu_config.is_queue, app.lb_config.is_queue, app.prod_lb_config.is_queue) == (True, False, False)
    assert (app.gpu_config.is_spot, app.prod_config.is_spot) == (True, False)


QUEUE = """
from tetra_rp import remote, LiveServerless, CpuLiveServerless, ServerlessEndpoint, GpuGroup

cpu_config = CpuLiveServerless(
    name="01_getting_started_cpu_worker",
    cpuCount=2,                 # 2 vCPU
    workersMin=0,
    workersMax=5,
)

@remote(resource_config=cpu_config)
async def process_data(items: list) -> dict:
    # Define helper inside function (required for cloudpickle)
    def process_item(item):
        # Your processing logic here
        return str(item).upper()

    # CPU-bound processing
    results = [process_item(item) for item in items]
    return {"processed": len(results)}

config = LiveServerless(name="my_job", gpus=[GpuGroup.ANY])

@remote(resource_config=config)
async def my_job(data: dict) -> dict:
    if data.get("invalid"):
        raise ValueError("Invalid input")
    return {"result": "success"}

prod_config = ServerlessEndpoint(
    name="02_ml_inference_gpu_prod",
    gpus=[GpuGroup.AMPERE_80],  # A100 80GB for production
    workersMin=1,               # Always keep 1 warm
    workersMax=10,              # Scale to 10 under load
    idleTimeout=300,
)

@remote(resource_config=prod_config)
async def production_inference(data: dict) -> dict:
    return {"status": "success"}

@remote(
    resource_config=cpu_config,
    env={
        "MODEL_SIZE": "large",
        "LOG_LEVEL": "DEBUG",
        "API_KEY": None,  # Will use local environment
    },
)
async def configurable_function(data: dict) -> dict:
    import os
    model_size = os.getenv("MODEL_SIZE", "small")
    log_level = os.getenv("LOG_LEVEL", "INFO")
    return {"size": model_size, "log": log_level}

@remote(resource_config=cpu_config)
async def batch_process(items: list) -> dict:
    import asyncio
    results = []

    async def process_item(item):
        # Your item processing logic here
        # For example, simulate async processing
        await asyncio.sleep(0.1)
        return f"processed_{item}"

    # Process items asynchronously
    async def run_batch():
        tasks = [process_item(item) for item in items]
        return await asyncio.gather(*tasks)

    # Run concurrently
    results = await run_batch()

    return {"processed": len(results), "results": results}

async def main():
    # Calling queue-based function returns JobOutput
    job_output = await my_job({"invalid": False})
    bad = await my_job.with_options(max_retries=0)({"invalid": True})
    rest = await asyncio.gather(
        process_data(["a", "b", "c"]), production_inference({}), configurable_function({}), batch_process(["x", "y"])
    )
    return [job_output, bad, *rest]

import asyncio
"""


def test_the_queue_based_functions_of_the_reference_run_and_give_job_outputs(
    engine: IsolatedEngine, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tetra_rp import JobOutput

    monkeypatch.setenv("API_KEY", "the caller's")
    good, bad, *rest = asyncio.run(program(QUEUE).main())
    assert isinstance(good, JobOutput)
    assert (good.status, good.output, good.error) == ("COMPLETED", {"result": "success"}, None)
    assert (bad.status, bad.output, bad.error) == ("FAILED", None, "ValueError: Invalid input")
    for job in (good, bad):
        assert job.id
        assert 0 < job.started_at <= job.ended_at
    assert [job.output for job in rest] == [
        {"processed": 3},
        {"status": "success"},
        {"size": "large", "log": "DEBUG"},
        {"processed": 2, "results": ["processed_x", "processed_y"]},
    ]


SYNCHRONOUS = """
from tetra_rp import remote, CpuLiveServerless

config = CpuLiveServerless(name="plain")

@remote(resource_config=config)
def my_function(data: dict) -> dict:  # No async!
    return data
"""


def test_a_plain_function_is_awaited_as_well(engine: IsolatedEngine, program: Any) -> None:
    app = program(SYNCHRONOUS)

    async def main() -> Any:
        return await app.my_function({"input": "value"})

    assert asyncio.run(main()).output == {"input": "value"}


MUTABLE_DEFAULT = """
from tetra_rp import remote, CpuLiveServerless

config = CpuLiveServerless(name="defaults")

@remote(resource_config=config)
async def process(items: list = None):
    if items is None:
        items = []
    items.append("new")
    return items
"""


def test_arguments_that_a_function_changes_are_copies(engine: IsolatedEngine, program: Any) -> None:
    app = program(MUTABLE_DEFAULT)
    mine = ["old"]
    assert app.process.sync(mine).output == ["old", "new"]
    assert mine == ["old"]
    assert app.process.sync().output == ["new"]


TIMES = """
from datetime import datetime
from tetra_rp import remote, CpuLiveServerless

config = CpuLiveServerless(name="times")

@remote(resource_config=config)
async def my_function(data: dict) -> dict:
    return {
        "status": "success",
        "result": sum(data["values"]),
        "timestamp": datetime.now().isoformat(),  # ISO format strings
        "values": [1, 2, 3],
    }
"""


def test_what_a_function_returns_can_go_into_json(engine: IsolatedEngine, program: Any) -> None:
    import json

    job = program(TIMES).my_function.sync({"values": [1, 2]})
    assert json.loads(json.dumps(job))["result"] == 3


TESTING = """
import os
from tetra_rp import remote, LiveServerless, GpuGroup

# Test locally during development
LOCAL_TEST = os.getenv("LOCAL_TEST", "False") == "True"

config = LiveServerless(name="my_worker", gpus=[GpuGroup.ANY])

@remote(resource_config=config, local=LOCAL_TEST)
async def my_function(data: dict) -> dict:
    return {"status": "ok", "pid": os.getpid()}
"""
TESTED = """
import asyncio
import os
import app

def test_it():
    job = asyncio.run(app.my_function({}))
    assert job.error is None
    assert job.output["status"] == "ok"
    assert (job.output["pid"] == os.getpid()) is app.LOCAL_TEST
"""


@pytest.mark.parametrize("local", ["True", "False"])
def test_one_test_passes_in_this_process_and_on_workers(engine: IsolatedEngine, tmp_path: Path, local: str) -> None:
    (tmp_path / "app.py").write_text(TESTING)
    (tmp_path / "test_app.py").write_text(TESTED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_app.py"],
        cwd=tmp_path,
        env={**engine.environ, "LOCAL_TEST": local, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_local_mode_no_engine_is_started(program: Any) -> None:
    with isolated_engine(LOCAL_TEST="True") as alone:
        job = asyncio.run(program(TESTING).my_function({}))
        assert (job.status, job.output["status"]) == ("COMPLETED", "ok")
        assert not alone.home.exists()
        assert alone.processes() == []


VALUES = """
from tetra_rp import remote, CpuLiveServerless

@remote(resource_config=CpuLiveServerless(name="values"))
async def look_at(value):
    return type(value).__name__, value
"""


@pytest.mark.parametrize("value", [{"a": [1]}, [1], (1, 2), {1, 2}, "text", 1, 1.5, True, None])
def test_values_of_the_builtin_types_travel(engine: IsolatedEngine, program: Any, value: Any) -> None:
    assert program(VALUES).look_at.sync(value).unwrap() == (type(value).__name__, value)
