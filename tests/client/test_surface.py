"""Whatever is written where: it is taken, or refused by an error of ours that says what, where and why."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runpod_flash as flash
from runpod_flash import FlashError, remote
from runpod_flash.model.resolve import merge_env, resolve_endpoint, resolve_share, resolve_timeout_ms, without_effect
from runpod_flash.model.resources import Resource

EIGHT = [
    flash.LiveServerless, flash.CpuLiveServerless, flash.ServerlessEndpoint, flash.CpuServerlessEndpoint,
    flash.LiveLoadBalancer, flash.CpuLiveLoadBalancer, flash.LoadBalancerSlsResource,
    flash.CpuLoadBalancerSlsResource,
]  # fmt: skip
VALUES: list[Any] = [*EIGHT, flash.NetworkVolume, flash.PodTemplate, flash.KeyValuePair]


class Hostile:
    """Raises whatever is done with it."""

    def _no(self, *_: object) -> Any:
        raise RuntimeError("hostile")

    __str__ = __eq__ = __ne__ = __bool__ = __len__ = __hash__ = _no


def endless_list() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def endless_dict() -> dict[str, Any]:
    items: dict[str, Any] = {}
    items["again"] = items
    return items


ODD = st.builds(Hostile) | st.builds(endless_list) | st.builds(endless_dict) | st.sampled_from(
    [np.array([1, 2]), np.float64("nan"), object(), int, len, "\ud800",
     "\0", b"bytes", range(3), {1: 2}, {"key": 1}, {("a", "b")}, flash.GpuGroup.ADA_24, flash.CpuInstanceType.CPU_2,
     10**400, -(10**400), 1e308, threading.Lock(), flash.PodTemplate(memory_gb=1e300, cpu_count=10**400),
     flash.NetworkVolume("v", size=10**30), flash.LiveServerless("other"), ("tuple",), "ADA_24", "12.8", ["8080"]]
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(ODD | PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4)
NAMES = sorted({field.name for kind in VALUES for field in dataclasses.fields(kind)} | {"workers_max", "x"})


def taken(write: Callable[[], Any]) -> Any:
    """What was made, or None if it was refused as it should be."""
    try:
        return write()
    except FlashError as error:
        refused = error
    assert isinstance(refused, (TypeError, ValueError))
    assert refused.what
    assert refused.why, refused
    assert "test_surface.py:" in str(refused.where)
    assert len(str(refused)) < 3000
    return None


@given(st.sampled_from(VALUES), st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=3), st.booleans())
def test_configurations_are_taken_or_refused(kind: Any, written: dict[str, Any], named: bool) -> None:
    key = "key" if kind is flash.KeyValuePair else "name"
    made = taken(lambda: kind(**({key: "worker", **written} if named else written)))
    if made is None:
        return
    # What was taken works wherever it goes.
    assert repr(made).startswith(kind.__name__)
    assert hash(made) == hash(copy.deepcopy(made))
    assert pickle.loads(pickle.dumps(made)) == made == copy.copy(made) == made.replace()
    if isinstance(made, Resource):
        spec, share = resolve_endpoint(made, "app", "dev"), resolve_share(made)
        msgspec.json.encode((spec, share, merge_env(made), resolve_timeout_ms(None, made)))
        without_effect(made)
        taken(lambda: dataclasses.replace(made, idleTimeout=7))


@given(st.sampled_from(VALUES), st.lists(ANYTHING, max_size=3))
def test_values_without_their_names_are_taken_or_refused(kind: Any, values: list[Any]) -> None:
    taken(lambda: kind(*values))
    if values:
        taken(lambda: kind(*values, name="twice", key="twice"))


ARGUMENTS = st.sampled_from(
    ["resource_config", "dependencies", "system_dependencies", "accelerate_downloads", "env", "max_retries", "timeout",
     "local", "method", "path", "dependancies", "retries"]
)  # fmt: skip


def body(x: Any = None) -> Any:
    return x


@given(st.sampled_from(EIGHT), st.dictionaries(ARGUMENTS, ANYTHING, max_size=3), st.just(body) | ANYTHING)
def test_remote_takes_or_refuses(kind: Any, written: dict[str, Any], function: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # max_retries on a load-balanced resource
        decorate = taken(lambda: remote(**{"resource_config": kind("worker"), **written}))
    if decorate is not None:
        made = taken(lambda: decorate(function))
        if made is not None:
            repr(made)
            msgspec.json.encode(made.__remote_config__.policy)


handle = remote(flash.CpuLiveServerless("worker"))(body)
OPTIONS = st.sampled_from(["timeout", "max_retries", "ttl", "priority", "delay", "name", *NAMES])


@given(st.dictionaries(OPTIONS, ANYTHING, max_size=3))
def test_options_are_taken_or_refused(written: dict[str, Any]) -> None:
    made = taken(lambda: handle.with_options(**written))
    if made is not None:
        msgspec.json.encode(made.__remote_config__.policy)


@given(ANYTHING)
def test_ids_of_jobs_are_taken_or_refused(id: Any) -> None:
    made = taken(lambda: flash.JobHandle.from_id(id))
    if made is not None:
        assert made.id == id


@given(ANYTHING, ANYTHING)
def test_the_arguments_of_map_and_spawn_are_taken_or_refused(items: Any, number: Any) -> None:
    for verb in (handle.map, handle.starmap):
        taken(lambda verb=verb: verb(items))  # type: ignore[misc]
        taken(lambda verb=verb: verb([], in_flight=number))  # type: ignore[misc]
    local: Any = remote(flash.CpuLiveServerless("worker"), local=True)(body)
    assert taken(lambda: asyncio.run(local.spawn(1, idempotency_key=number))) is None


@pytest.mark.parametrize("kind", EIGHT)
def test_a_resource_without_a_name_is_told_to_have_one(kind: Any) -> None:
    with pytest.raises(
        flash.UsageError, match=rf"{kind.__name__} needs a name(.|\n)*fix: +write {kind.__name__}\(name="
    ):
        kind()


def test_what_several_classes_have_in_common_is_no_class_to_use() -> None:
    from runpod_flash.model.resources import GpuFields, QueueResource

    for kind in (Resource, QueueResource, GpuFields):
        with pytest.raises(flash.UsageError, match="use one of the eight"):
            kind(name="x")


def test_every_field_has_a_rule_and_no_rule_is_without_a_field() -> None:
    by_hand = {"env", "gpus", "instanceIds", "key", "value"}
    for kind in VALUES:
        assert {field.name for field in dataclasses.fields(kind)} - by_hand == set(kind.rules)
