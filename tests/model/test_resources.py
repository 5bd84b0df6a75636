"""The eight classes: values that are checked when they are made, and never change."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.errors import ConfigError, ImmutableError, UsageError
from runpod_flash.model.hardware import CpuInstanceType, GpuGroup, GpuType
from runpod_flash.model.resources import (
    CpuFields,
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    CpuLoadBalancerSlsResource,
    CpuServerlessEndpoint,
    LiveLoadBalancer,
    LiveServerless,
    LoadBalancerSlsResource,
    Resource,
    ServerlessEndpoint,
)
from runpod_flash.model.volumes import KeyValuePair, NetworkVolume, PodTemplate, VolumeId

GPU = [LiveServerless, ServerlessEndpoint, LiveLoadBalancer, LoadBalancerSlsResource]
CPU = [CpuLiveServerless, CpuServerlessEndpoint, CpuLiveLoadBalancer, CpuLoadBalancerSlsResource]
ALL: list[Any] = [*GPU, *CPU]


@pytest.mark.parametrize("kind", ALL)
def test_defaults_are_those_of_the_reference(kind: Any) -> None:
    made = kind(name="worker")
    assert (made.workersMin, made.workersMax, made.idleTimeout) == (0, 3, 300)
    assert (made.scalerValue, made.networkVolumeId, made.env, made.podTemplate) == (4, None, None, None)
    if isinstance(made, CpuFields):
        assert made.cpuCount == 1
    else:
        assert made.gpus == [GpuGroup.ANY]


@pytest.mark.parametrize("kind", ALL)
def test_every_common_field_is_accepted_and_recorded_as_written(kind: Any) -> None:
    written = {
        "name": "worker",
        "workersMin": 1,
        "workersMax": 9,
        "idleTimeout": 10**9,
        "env": [{"key": "A", "value": "1"}, KeyValuePair("B", "2")],
        "networkVolumeId": "volume",
        "podTemplate": PodTemplate(memory_gb=40, cpu_count=8, expose_ports=["8080", 8081]),
        "templateId": "t",
        "imageName": "image:1",
        "scalerType": "REQUEST_COUNT",
        "scalerValue": 2,
        "executionTimeoutMs": 1000,
        "max_concurrency": 3,
        "flashboot": True,
        "datacenter": "EU-RO-1",
        "locations": "EU",
        "type": "QB" if kind.is_queue else "LB",
        "id": "abc",
        "workersPFBTarget": 0,
        "python_version": "3.12",
    }
    made = kind(**written)
    assert {name: getattr(made, name) for name in written} == written


@pytest.mark.parametrize("kind", ALL)
def test_a_misspelled_field_is_a_type_error_that_knows_better(kind: Any) -> None:
    with pytest.raises(TypeError, match="Did you mean 'workersMax'") as caught:
        kind(name="worker", workers_max=3)
    assert "test_resources.py:" in str(caught.value)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("name", "", "non-empty"),
        ("name", "  ", "non-empty"),
        ("name", None, "non-empty"),
        ("workersMin", -1, "0 or more"),
        ("workersMin", True, "whole number"),
        ("workersMin", 5.0, "whole number"),
        ("workersMax", 0, "1 or more"),
        ("workersMax", "3", "whole number"),
        ("idleTimeout", -0.5, "0 or more"),
        ("idleTimeout", float("inf"), "0 or more"),
        ("scalerValue", 0, "1 or more"),
        ("scalerType", "SOMETIMES", "QUEUE_DELAY"),
        ("executionTimeoutMs", -1, "0 or more"),
        ("max_concurrency", 0, "1 or more"),
        ("podTemplate", {"memory_gb": 1}, "PodTemplate"),
        ("networkVolume", "volume", "NetworkVolume"),
        ("networkVolumeId", "", "name or id"),
        ("instanceIds", [], "non-empty list"),
        ("instanceIds", "cpu3g-1-4", "non-empty list"),
        ("instanceIds", ["cpu3g-one-4"], "CpuInstanceType"),
        ("env", "A=1", "dict"),
        ("env", [("A", "1")], "dict"),
        ("type", "??", "for this class"),
    ],
)
@pytest.mark.parametrize("kind", ALL)
def test_a_wrong_value_is_refused_with_field_value_and_rule(kind: Any, field: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as caught:
        kind(**{"name": "worker", field: value})
    assert isinstance(caught.value, ValueError)
    assert f"{field}=" in str(caught.value)


@pytest.mark.parametrize("value", ["ADA24", "", 3, None])
def test_an_unknown_card_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="GpuGroup and GpuType"):
        LiveServerless(name="worker", gpus=[value])


@pytest.mark.parametrize("value", [[], "ADA_24", GpuGroup.ANY])
def test_gpus_is_a_list_with_something_in_it(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"GpuGroup\.ANY"):
        LiveServerless(name="worker", gpus=value)


@pytest.mark.parametrize("kind", CPU)
@pytest.mark.parametrize("field", ["gpus", "gpuCount", "cudaVersions", "minCudaVersion"])
def test_cpu_classes_refuse_gpu_fields(kind: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be left out on a CPU class"):
        kind(**{"name": "worker", field: ["any"]})


@pytest.mark.parametrize("kind", GPU)
def test_gpu_classes_say_where_cpus_are_asked_for(kind: Any) -> None:
    with pytest.raises(ConfigError, match=r"PodTemplate\(cpu_count=4\)"):
        kind(name="worker", cpuCount=4)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "four", None])
def test_a_wrong_cpu_count_is_refused(count: Any) -> None:
    with pytest.raises(ConfigError, match="cpuCount"):
        CpuLiveServerless(name="worker", cpuCount=count)


@pytest.mark.parametrize("kind", [kind for kind in ALL if not kind.is_queue])
def test_without_a_queue_there_is_no_queue_delay(kind: Any) -> None:
    with pytest.raises(ConfigError, match="REQUEST_COUNT"):
        kind(name="worker", scalerType="QUEUE_DELAY")


def test_what_excludes_each_other_is_refused() -> None:
    volume = NetworkVolume(name="models")
    with pytest.raises(ConfigError, match="networkVolume"):
        LiveServerless(name="worker", networkVolume=volume, networkVolumeId=volume.id)
    with pytest.raises(ConfigError, match="gpus"):
        LiveServerless(name="worker", gpus=[GpuGroup.ANY], instanceIds=[CpuInstanceType.CPU3G_1_4])
    with pytest.raises(ConfigError, match="workersMax=2"):
        LiveServerless(name="worker", workersMin=3, workersMax=2)


def test_workers_max_follows_workers_min_where_it_is_not_given() -> None:
    assert LiveServerless(name="worker", workersMin=5).workersMax == 5
    assert LiveServerless(name="worker", workersMin=1).workersMax == 3


def test_resources_are_values() -> None:
    one = LiveServerless(name="worker", gpus=[GpuGroup.ADA_24], env={"A": "1"}, workersMin=0)
    same = LiveServerless(name="worker", gpus=["ADA_24"], env={"A": "1"})
    assert one == same
    assert len({one, same}) == 1
    assert one != one.replace(workersMax=4)
    other: Any = ServerlessEndpoint(name="worker", gpus=[GpuGroup.ADA_24], env={"A": "1"})
    assert one != other
    for twin in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert twin == one


def test_nothing_about_a_resource_can_be_changed() -> None:
    made: Any = LiveServerless(name="worker", gpus=[GpuGroup.ANY], env={"A": "1"})
    for change in (
        lambda: setattr(made, "workersMax", 9),
        lambda: setattr(made, "anything", 9),
        lambda: delattr(made, "name"),
        lambda: made.gpus.append(GpuGroup.ADA_24),
        lambda: made.env.update(B="2"),
        lambda: made.env.__setitem__("B", "2"),
    ):
        with pytest.raises(ImmutableError, match="replace"):
            change()


def test_a_list_that_was_given_may_change_later_without_the_resource() -> None:
    gpus = [GpuGroup.ADA_24]
    made = LiveServerless(name="worker", gpus=gpus)
    gpus.append(GpuGroup.ANY)
    assert made.gpus == [GpuGroup.ADA_24]


@pytest.mark.parametrize(
    "env", [{"KEY": "hunter2"}, [{"key": "KEY", "value": "hunter2"}], [KeyValuePair("KEY", "hunter2")]]
)
def test_a_repr_shows_what_was_given_but_no_secrets(env: Any) -> None:
    shown = repr(LiveServerless(name="worker", env=env, podTemplate=PodTemplate(env=env)))
    assert shown.startswith("LiveServerless(name='worker', env=")
    assert "KEY" in shown
    assert "hunter2" not in shown
    assert "workersMax" not in shown


def test_an_error_about_variables_shows_no_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        LiveServerless(name="worker", env=[{"key": "A", "val": "hunter2"}])
    assert "hunter2" not in str(caught.value)


def taken_or_refused(kind: Any, **written: Any) -> Resource | Exception:
    try:
        made: Resource = kind(**written)
    except (ConfigError, UsageError) as refused:
        return refused
    return made


@given(st.sampled_from(ALL), st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text(), max_size=4))
def test_whatever_is_written_is_taken_or_refused_in_our_words(kind: Any, written: dict[str, Any]) -> None:
    made = taken_or_refused(kind, **{"name": "worker", **written})
    assert isinstance(made, Resource) or str(made)


@given(
    st.sampled_from(["workersMin", "workersMax", "idleTimeout", "scalerValue", "env", "instanceIds", "podTemplate"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3),
)
def test_whatever_a_known_field_gets_is_taken_or_refused_in_our_words(field: str, value: Any) -> None:
    made = taken_or_refused(LiveServerless, **{"name": "worker", field: value})
    assert isinstance(made, Resource) or field in str(made)


# ── volumes and templates ─────────────────────────────────────────────────────────────────────────


def test_the_id_of_a_volume_is_a_string_that_remembers_its_volume() -> None:
    volume = NetworkVolume(name="models", mount_path="/models", size=10)
    assert volume.id == "models"
    assert isinstance(volume.id, VolumeId)
    assert volume.id.volume is volume
    twin = pickle.loads(pickle.dumps(LiveServerless(name="worker", networkVolumeId=volume.id)))
    assert twin.networkVolumeId.volume == volume


@pytest.mark.parametrize(
    "written",
    [{}, {"name": "v", "mount_path": "models"}, {"name": "v", "mount_path": "/"}, {"name": "v", "size": 0},
     {"name": "v", "datacenter": "EU-RO-1", "dataCenterId": "EU-CZ-1"}],
)  # fmt: skip
def test_impossible_volumes_are_refused(written: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        NetworkVolume(**written)


@pytest.mark.parametrize(
    "written",
    [{"memory_gb": 0}, {"cpu_count": -1}, {"memory_gb": "40"}, {"expose_ports": ["http"]}, {"expose_ports": "80"},
     {"expose_ports": [0]}, {"expose_ports": [65536]}, {"containerDiskInGb": 0}, {"env": {"": "x"}}],
)  # fmt: skip
def test_impossible_templates_are_refused(written: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PodTemplate(**written)


# ── hardware ──────────────────────────────────────────────────────────────────────────────────────


def test_enums_are_their_strings() -> None:
    assert GpuGroup.ADA_24 == "ADA_24"
    assert f"{GpuType.NVIDIA_H200}" == "NVIDIA H200"
    assert [group.value for group in GpuGroup if group.value != group.name] == ["any"]


def test_every_card_belongs_to_a_group_that_knows_its_memory() -> None:
    for card in GpuType:
        assert card is GpuType.ANY or card in card.group.types
        assert (card.memory_gb is None) == (card is GpuType.ANY)
    assert GpuGroup.HOPPER_141.memory_gb == 141
    assert GpuGroup.ADA_24.price_per_second == 0.00031
    assert GpuGroup.ADA_24.price_per_hour == GpuType.NVIDIA_GEFORCE_RTX_4090.price_per_hour == 1.116
    assert CpuInstanceType.CPU3G_8_32.vcpus == 8
    assert CpuInstanceType.CPU3G_8_32.memory_gb == 32
