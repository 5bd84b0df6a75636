"""Endpoints and pools: who is whom, and what a resource means."""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from runpod_flash.errors import ConfigError
from runpod_flash.model.endpoint import (
    EndpointSpec,
    GpuRequest,
    Mount,
    PoolSpec,
    Program,
    RuntimeSpec,
    endpoint_id,
    environment_key,
    normalise_packages,
    normalise_requirements,
    pool_key,
)
from runpod_flash.model.hardware import CpuInstanceType, GpuGroup, GpuType
from runpod_flash.model.resolve import (
    merge_env,
    resolve_concurrency,
    resolve_endpoint,
    resolve_gpus,
    resolve_share,
    resolve_timeout_ms,
    without_effect,
)
from runpod_flash.model.resources import CpuLiveLoadBalancer, CpuLiveServerless, LiveLoadBalancer, LiveServerless
from runpod_flash.model.volumes import NetworkVolume, PodTemplate

RUNTIME = RuntimeSpec(key="r", version="1", package="/p", cloudpickle="/c", msgspec="/m")
POOL = PoolSpec(
    interpreter="/usr/bin/python3.11",
    abi="cpython-311",
    runtime=RUNTIME,
    requirements=("numpy",),
    gpus=(GpuRequest("ADA_24", 2), GpuRequest()),
    variables={"KEY": "hunter2"},
    base_env={"PATH": "/bin"},
    index={"UV_INDEX_URL": "https://me:token@host/simple"},
    mounts=(Mount("models", "/models"),),
)
SECRET = b"a secret"


def test_specs_travel_in_messages_unchanged() -> None:
    endpoint = EndpointSpec("app", "dev", "worker", execution_timeout_ms=5)
    assert msgspec.json.decode(msgspec.json.encode(POOL), type=PoolSpec) == POOL
    assert msgspec.json.decode(msgspec.json.encode(endpoint), type=EndpointSpec) == endpoint
    assert hash(endpoint) == hash(replace(endpoint))


def test_the_id_of_an_endpoint_never_changes() -> None:
    assert endpoint_id("a", "b", "c") == EndpointSpec("a", "b", "c").id == "eprow54eghmdu3oa"
    assert endpoint_id("ab", "", "c") != endpoint_id("a", "b", "c")


@given(st.text(), st.text(), st.text())
def test_the_id_of_an_endpoint_can_stand_in_a_host_name(app: str, env: str, name: str) -> None:
    made = endpoint_id(app, env, name)
    assert len(made) == 16
    assert set(made) <= set(string.ascii_lowercase + "234567")


@pytest.mark.parametrize(
    "change",
    [
        {"interpreter": "/other"},
        {"abi": "cpython-312"},
        {"runtime": replace(RUNTIME, key="s")},
        {"requirements": ("numpy", "scipy")},
        {"system": ("ffmpeg",)},
        {"gpus": (GpuRequest(), GpuRequest("ADA_24", 2))},
        {"cpus": 2},
        {"memory_mb": 1},
        {"variables": {"KEY": "hunter3"}},
        {"base_env": {"PATH": "/sbin"}},
        {"index": {"UV_INDEX_URL": "https://me:other@host/simple"}},
        {"concurrency": 2},
        {"mounts": ()},
        {"ports": (80,)},
        {"program": Program(("python", "handler.py"), "/mine", "d")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_makes_workers_differ_makes_another_pool(change: dict[str, Any]) -> None:
    assert pool_key(replace(POOL, **change), SECRET) != pool_key(POOL, SECRET)


def test_the_key_of_a_pool_depends_on_no_order_and_on_the_secret() -> None:
    turned = replace(POOL, variables={"B": "2", "A": "1"})
    assert pool_key(turned, SECRET) == pool_key(replace(POOL, variables={"A": "1", "B": "2"}), SECRET)
    assert pool_key(POOL, SECRET) != pool_key(POOL, b"another secret")
    assert pool_key(replace(POOL, cpus=1.0), SECRET) == pool_key(POOL, SECRET)
    assert len(pool_key(POOL, SECRET)) == 32


def test_only_what_is_installed_makes_another_environment() -> None:
    key = environment_key(POOL)
    assert key == POOL.environment_key()
    assert key == environment_key(replace(POOL, variables={}, gpus=(), cpus=8))
    assert key == environment_key(replace(POOL, index={"UV_INDEX_URL": "https://me:new@host/simple"}))
    assert key != environment_key(replace(POOL, index={"UV_INDEX_URL": "https://elsewhere/simple"}))
    assert key != environment_key(replace(POOL, requirements=()))


# ── packages ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        (["Torch >= 2.0.0 , <3.0"], ("torch<3.0,>=2.0.0",)),
        (["scikit_learn", "scikit.learn", "Scikit-Learn "], ("scikit-learn",)),
        (["b", "a"], ("a", "b")),
        (["uvicorn[Standard, extra_one]"], ("uvicorn[extra-one,standard]",)),
        (["a ;python_version<'3.12'"], ("a ; python_version<'3.12'",)),
        (["a@https://host/a.whl"], ("a @ https://host/a.whl",)),
        (["a (>=1)"], ("a>=1",)),
        (["git+https://host/a", "./here", "-e ."], ("-e .", "./here", "git+https://host/a")),
        (["runpod-flash", "tetra_rp==0.5", "Flash.Anywhere[x]"], ()),
        (["", "  "], ()),
    ],
)
def test_requirements_get_one_spelling(written: list[str], normal: tuple[str, ...]) -> None:
    assert normalise_requirements(written) == normal
    assert normalise_requirements(normal) == normal


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", fullmatch=True)
CLAUSES = st.builds("{}{}".format, st.sampled_from([">=", "<", "==", "!=", "~="]), st.sampled_from(["1.0", "2.4"]))


@given(NAMES, st.lists(NAMES, max_size=2), st.lists(CLAUSES, max_size=3))
def test_a_normal_requirement_means_the_same(name: str, extras: list[str], clauses: list[str]) -> None:
    written = f"{name} [{' , '.join(extras)}] {' , '.join(clauses)}" if extras else f"{name} {','.join(clauses)}"
    (normal,) = normalise_requirements([written])
    before, after = Requirement(written), Requirement(normal)
    assert after.specifier == before.specifier
    assert after.name == before.name.lower().replace("_", "-").replace(".", "-")
    assert len(after.extras) <= len(before.extras)


@pytest.mark.parametrize("wrong", ["numpy", [1], [None]])
def test_what_is_no_list_of_strings_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        normalise_requirements(wrong)
    with pytest.raises(ConfigError):
        normalise_packages(wrong)


# ── what a resource means ─────────────────────────────────────────────────────────────────────────

A, B = GpuGroup.AMPERE_80, GpuType.NVIDIA_L4


@pytest.mark.parametrize(
    ("gpus", "meant"),
    [
        ([A], [("AMPERE_80", 1)]),
        ([A, A], [("AMPERE_80", 2)]),
        ([A, A, B], [("AMPERE_80", 2), ("NVIDIA L4", 1)]),
        ([B, A, B], [("NVIDIA L4", 2), ("AMPERE_80", 1)]),
        (["AMPERE_80", "NVIDIA_L4"], [("AMPERE_80", 1), ("NVIDIA L4", 1)]),
        ([GpuGroup.ANY, GpuType.ANY], [("any", 2)]),
        (None, [("any", 1)]),
    ],
)
def test_distinct_cards_are_alternatives_and_repeated_ones_a_count(gpus: Any, meant: list[tuple[str, int]]) -> None:
    made = resolve_gpus(LiveServerless(name="w", gpus=gpus))
    assert [(gpu.name, gpu.count) for gpu in made] == meant


def test_gpu_count_overrides_the_counts() -> None:
    assert resolve_gpus(LiveServerless(name="w", gpus=[A, B], gpuCount=4)) == (
        GpuRequest("AMPERE_80", 4),
        GpuRequest("NVIDIA L4", 4),
    )


@pytest.mark.parametrize(
    ("resource", "cpus", "memory_mb"),
    [
        (CpuLiveServerless(name="w"), 1, None),
        (CpuLiveServerless(name="w", cpuCount=4), 4, None),
        (CpuLiveServerless(name="w", cpuCount=CpuInstanceType.CPU_4), 4, 4096),
        (CpuLiveServerless(name="w", cpuCount=CpuInstanceType.ANY), 1, None),
        (CpuLiveServerless(name="w", instanceIds=[CpuInstanceType.CPU3G_2_8]), 2, 8192),
        (LiveServerless(name="w", instanceIds=["cpu5c-4-8"]), 4, 8192),
        (CpuLiveServerless(name="w", podTemplate=PodTemplate(cpu_count=8, memory_gb=0.5)), 8, 512),
        (CpuLiveServerless(name="w", cpuCount=2, podTemplate=PodTemplate(cpu_count=8)), 2, None),
        (CpuLiveServerless(name="w", cpuCount="cpu-2-2", template=PodTemplate(memory_gb=1)), 2, 1024),
        (LiveServerless(name="w", podTemplate=PodTemplate(cpu_count=2.5)), 2.5, None),
    ],
)
def test_cpus_and_memory_come_from_the_most_precise_place(resource: Any, cpus: float, memory_mb: int | None) -> None:
    share = resolve_share(resource)
    assert (share.cpus, share.memory_mb) == (cpus, memory_mb)


def test_instance_ids_make_a_gpu_class_a_cpu_endpoint() -> None:
    assert resolve_share(LiveServerless(name="w", instanceIds=["cpu3g-1-4"])).gpus == ()


def test_a_volume_brings_its_path_also_by_its_id() -> None:
    volume = NetworkVolume(name="models", mount_path="/models", size=10)
    mount = Mount("models", "/models", 10)
    assert resolve_share(LiveServerless(name="w", networkVolumeId=volume.id)).mounts == (mount,)
    assert resolve_share(LiveServerless(name="w", networkVolume=volume)).mounts == (mount,)
    assert resolve_share(LiveServerless(name="w", networkVolumeId="models")).mounts == (Mount("models", make=False),)


def test_exposed_ports_are_numbers_once() -> None:
    template = PodTemplate(expose_ports=["8080", "8081/http", 8080])
    assert resolve_share(LiveServerless(name="w", podTemplate=template)).ports == (8080, 8081)


def test_an_endpoint_says_how_it_scales() -> None:
    queue = resolve_endpoint(LiveServerless(name="w", idleTimeout=5, executionTimeoutMs=0), "app", "dev")
    assert queue == EndpointSpec("app", "dev", "w", "queue", 0, 3, 5, "QUEUE_DELAY", 4)
    direct = resolve_endpoint(LiveLoadBalancer(name="w"), "app", "dev", "deployed")
    assert (direct.kind, direct.scaler, direct.origin) == ("lb", "REQUEST_COUNT", "deployed")


def test_calls_at_once_depend_on_how_they_arrive_and_what_they_share() -> None:
    assert resolve_concurrency(CpuLiveServerless(name="w"), is_async=True) == 1
    assert resolve_concurrency(CpuLiveServerless(name="w", max_concurrency=7), is_async=True) == 1
    assert without_effect(CpuLiveServerless(name="w", max_concurrency=7)) == ("max_concurrency",)
    assert resolve_concurrency(CpuLiveLoadBalancer(name="w"), is_async=True) == 100
    assert resolve_concurrency(CpuLiveLoadBalancer(name="w"), is_async=False) == 8
    assert resolve_concurrency(LiveLoadBalancer(name="w"), is_async=True) == 1
    assert resolve_concurrency(LiveLoadBalancer(name="w", max_concurrency=7), is_async=True) == 7


def test_variables_of_the_function_win_over_the_resource_and_that_over_the_template() -> None:
    template = PodTemplate(env=[{"key": "A", "value": "template"}, {"key": "B", "value": "template"}])
    resource = LiveServerless(name="w", podTemplate=template, env={"B": "resource", "C": "resource"})
    merged = merge_env(resource, {"C": None, "D": "function"})
    assert merged == {"A": "template", "B": "resource", "C": None, "D": "function"}


def test_an_explicit_timeout_wins_over_the_resource_and_that_over_the_default() -> None:
    resource = LiveServerless(name="w", executionTimeoutMs=5000)
    assert resolve_timeout_ms(1.5, resource) == 1500
    assert resolve_timeout_ms(None, resource) == 5000
    assert resolve_timeout_ms(None, LiveServerless(name="w")) == 3_600_000


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "60"])
def test_impossible_timeouts_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="timeout="):
        resolve_timeout_ms(wrong, LiveServerless(name="w"))


def test_fields_without_effect_here_are_named() -> None:
    template = PodTemplate(memory_gb=1, dockerArgs="-v")
    resource = LiveServerless(name="w", flashboot=True, imageName="i", datacenter=None, podTemplate=template)
    assert without_effect(resource) == ("flashboot", "imageName", "PodTemplate.dockerArgs")
