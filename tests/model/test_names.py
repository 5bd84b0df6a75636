"""The public names: under both roofs the same objects, and none loaded before it is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import runpod_flash
import tetra_rp


def fresh(code: str) -> str:
    """What `code` prints in a new interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


PROMISED = """
    remote LiveServerless CpuLiveServerless ServerlessEndpoint CpuServerlessEndpoint LiveLoadBalancer
    CpuLiveLoadBalancer LoadBalancerSlsResource CpuLoadBalancerSlsResource GpuGroup GpuType CpuInstanceType
    NetworkVolume PodTemplate KeyValuePair CudaVersion DataCenter ServerlessType ServerlessScalerType
    JobOutput JobHandle EndpointJob progress ResourceManager FlashApp FlashError ConfigError ScopeError RemoteError
"""


def test_programs_of_both_generations_find_the_names_they_import() -> None:
    for name in PROMISED.split():
        assert name in runpod_flash.__all__
        assert name in tetra_rp.__all__
    assert runpod_flash.EndpointJob is runpod_flash.JobHandle


@pytest.mark.parametrize("name", runpod_flash.__all__)
def test_both_packages_have_the_same_objects(name: str) -> None:
    assert getattr(runpod_flash, name) is getattr(tetra_rp, name)


def test_both_packages_list_their_names() -> None:
    assert tetra_rp.__all__ == runpod_flash.__all__
    assert set(runpod_flash.__all__) <= set(dir(runpod_flash))
    assert set(runpod_flash.__all__) <= set(dir(tetra_rp))


@pytest.mark.parametrize("package", ["runpod_flash", "tetra_rp"])
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = importlib.import_module(package).nonsense


def test_programs_of_the_earlier_generation_find_the_resources() -> None:
    ours = importlib.import_module("runpod_flash.core.resources")
    theirs = importlib.import_module("tetra_rp.core.resources")
    for name in ours.__all__:
        assert getattr(ours, name) is getattr(theirs, name) is getattr(runpod_flash, name)


def test_importing_the_package_imports_almost_nothing() -> None:
    loaded = fresh("import sys; before = set(sys.modules); import runpod_flash; print(*set(sys.modules) - before)")
    small = {"__future__", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "warnings"}
    assert set(loaded.split()) - small == {"runpod_flash", "runpod_flash._version"}


def test_the_nouns_need_nothing_but_the_standard_library() -> None:
    loaded = fresh(
        "import sys; from runpod_flash.model import output, resolve;"
        "print(*{name.partition('.')[0] for name in sys.modules} - {*sys.stdlib_module_names})"
    )
    assert not {"msgspec", "pydantic", "cloudpickle", "fastapi", "numpy"} & set(loaded.split())


def test_every_error_is_public() -> None:
    from runpod_flash import errors

    kinds = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert kinds - {"InvalidTransition"} <= set(runpod_flash.__all__)
