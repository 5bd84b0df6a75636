"""What a worker gets of a machine: what was asked for, or what comes nearest to it, and what is said about that."""

from __future__ import annotations

from typing import Any

import pytest

from runpod_flash.engine.placement import Placement, asks_for_something, place
from runpod_flash.model.endpoint import GpuRequest, Mount, PoolSpec, RuntimeSpec
from runpod_flash.wire.messages import Machine

RUNTIME = RuntimeSpec("key", "1", "/package", "/cloudpickle.py", "/msgspec")
MIXED = ["NVIDIA A40", "NVIDIA GeForce RTX 4090", "NVIDIA A40", "NVIDIA GeForce RTX 4090"]


def placed(*gpus: tuple[str, int], cards: list[str] | None = None, **asked: Any) -> Placement:
    spec = PoolSpec("python", "abi", RUNTIME, gpus=tuple(GpuRequest(*gpu) for gpu in gpus), **asked)
    machine = Machine(cpus=4, memory_mb=8192, gpus=[(n, name, 24_000) for n, name in enumerate(cards or [])])
    return place(spec, machine)


def sentences(found: Placement) -> list[str]:
    return [f"asks for {lack.asked}; has {lack.has}: {lack.instead}" for lack in found.lacks]


@pytest.mark.parametrize(
    ("gpus", "cards", "count", "may_have"),
    [
        ([("any", 1)], MIXED, 1, (0, 1, 2, 3)),
        ([("ADA_24", 1)], MIXED, 1, (1, 3)),
        ([("ADA_24", 2)], MIXED, 2, (1, 3)),
        ([("NVIDIA A40", 1)], MIXED, 1, (0, 2)),
        ([("HOPPER_141", 1), ("AMPERE_48", 2)], MIXED, 2, (0, 2)),
        ([("AMPERE_48", 3), ("ADA_24", 1)], MIXED, 1, (1, 3)),
        ([], MIXED, 0, ()),
    ],
)
def test_what_the_machine_has_is_given_and_nothing_said(gpus: Any, cards: Any, count: int, may_have: Any) -> None:
    found = placed(*gpus, cards=cards)
    assert (found.gpus, found.cards, found.lacks) == (count, may_have, ())


@pytest.mark.parametrize(
    ("gpus", "cards", "count", "may_have", "said"),
    [
        ([("ADA_24", 4)], MIXED, 2, (1, 3), "asks for 4 × ADA_24; has 2: each of its workers gets all of them"),
        ([("any", 8)], MIXED, 4, (0, 1, 2, 3), "asks for 8 GPUs; has 4: each of its workers gets all of them"),
        ([("HOPPER_141", 2), ("NVIDIA L4", 1)], MIXED[:1], 1, (0,),
         "asks for 2 × HOPPER_141 or 1 × NVIDIA L4; has NVIDIA A40: that is used instead"),
        ([("any", 1)], [], 0, (), "asks for a GPU; has no GPU: its functions run on the CPU"),
    ],
)  # fmt: skip
def test_the_nearest_is_given_and_said(gpus: Any, cards: Any, count: int, may_have: Any, said: str) -> None:
    found = placed(*gpus, cards=cards)
    assert (found.gpus, found.cards) == (count, may_have)
    assert sentences(found) == [said]


def test_memory_and_processors_are_clamped() -> None:
    found = placed(memory_mb=40 * 1024, cpus=8)
    assert (found.memory_mb, found.cpus) == (8192, 4)
    assert sentences(found) == [
        "asks for 40 GB of memory; has 8 GB: that is the limit of each worker",
        "asks for 8 CPUs; has 4: its workers run on these",
    ]
    assert placed(memory_mb=100, cpus=4) == Placement(memory_mb=100, cpus=4)


def test_a_driver_that_does_not_answer_is_the_reason() -> None:
    spec = PoolSpec("python", "abi", RUNTIME, gpus=(GpuRequest(),))
    machine = Machine(cpus=1, memory_mb=1, facts={"gpu_trouble": "nvidia-smi: it hangs"})
    (lack,) = place(spec, machine).lacks
    assert lack.has == "no GPU that answers (nvidia-smi: it hangs)"


def test_every_machine_has_one_processor() -> None:
    assert not asks_for_something(PoolSpec("python", "abi", RUNTIME))
    assert asks_for_something(PoolSpec("python", "abi", RUNTIME, cpus=2))


@pytest.mark.parametrize(
    ("asked", "facts", "said"),
    [
        ({"cpus": 0.5, "cpu_limit": 0.5}, {"no_quota": "not ours"},
         ["asks for 0.5 CPUs; has only whole ones to give (not ours): each worker has 1"]),
        ({"cpus": 2, "cpu_limit": 2}, {"no_quota": "not ours"}, []),
        ({"cpus": 2, "cpu_limit": 2}, {"no_affinity": "Darwin offers none"},
         ["asks for 2 CPUs; has no way to hold workers to them (Darwin offers none): they use what is free"]),
        ({"cpus": 4, "cpu_limit": 4}, {"no_affinity": "Darwin offers none"}, []),
        ({"mounts": (Mount("my models", "/models"),)}, {"no_mounts": "refused"},
         ["asks for the volume 'my models' at /models; has no way to mount it for its workers alone (refused): "
          "read its folder from the variable FLASH_VOLUME_MY_MODELS; what could be done: flash doctor"]),
        ({"mounts": (Mount("models", "/models"),)}, {}, []),
    ],
)  # fmt: skip
def test_what_a_machine_cannot_hold_workers_to_is_said(asked: Any, facts: Any, said: list[str]) -> None:
    spec = PoolSpec("python", "abi", RUNTIME, **asked)
    assert asks_for_something(spec)
    assert sentences(place(spec, Machine(cpus=4, memory_mb=8192, facts=facts))) == said
