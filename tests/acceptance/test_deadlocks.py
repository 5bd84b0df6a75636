"""Calls within calls that could wait for each other for ever: given room, or ended with the chain of calls named."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from runpod_flash import (
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    GpuGroup,
    LiveLoadBalancer,
    LiveServerless,
    PodTemplate,
    RemoteError,
    remote,
)
from runpod_flash.testing import IsolatedEngine, isolated_engine

MACHINE_GB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


@pytest.fixture(scope="module", autouse=True)
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedEngine]:
    """On a machine that has one card, as a program says that stands in for the driver's."""
    program = tmp_path_factory.mktemp("driver") / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, NVIDIA GeForce RTX 4090, 24564'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with isolated_engine(PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}") as one:
        yield one


card = LiveServerless(name="card", gpus=[GpuGroup.ANY])
same_card = LiveServerless(name="same-card", gpus=[GpuGroup.ANY])
card_directly = LiveLoadBalancer(name="card-directly", gpus=[GpuGroup.ANY], max_concurrency=20)
large = CpuLiveServerless(name="large", podTemplate=PodTemplate(memory_gb=int(MACHINE_GB * 0.6) or 1))
also_large = CpuLiveServerless(name="also-large", podTemplate=PodTemplate(memory_gb=int(MACHINE_GB * 0.6) or 1))
between = CpuLiveServerless(name="between")
single = CpuLiveServerless(name="single", workersMax=1)
singly = CpuLiveLoadBalancer(name="singly", workersMax=1, max_concurrency=1)
homes = CpuLiveServerless(name="homes", workersMax=2)


@remote(same_card)
async def infer() -> str:
    return "inferred"


@remote(card)
async def train() -> Any:
    return (await infer()).unwrap()


@remote(card)
async def train_again(deep: int) -> Any:
    return (await train_again(deep - 1)).unwrap() if deep else "trained"


@remote(card)
async def train_between() -> Any:
    return (await pass_on()).unwrap()


@remote(between)
async def pass_on() -> Any:
    return (await infer()).unwrap()


@remote(card)
async def train_but_first_rest() -> Any:
    import asyncio

    _resting, inferring = await asyncio.gather(rest(), infer())
    return inferring.unwrap()


@remote(between)
async def rest() -> None:
    import asyncio

    await asyncio.sleep(0.5)


@remote(card_directly)
async def serve() -> Any:
    return (await infer()).unwrap()


@remote(card)
async def train_and_ask() -> Any:
    return await serve()


@remote(also_large)
async def load() -> str:
    return "loaded"


@remote(large)
async def load_both() -> Any:
    return (await load()).unwrap()


@remote(single)
async def ping(n: int) -> int:
    return (await pong(n - 1)).unwrap() if n else 0


@remote(single)
async def pong(n: int) -> int:
    return (await ping(n - 1)).unwrap() if n else 0


@remote(singly)
async def count_down(n: int) -> int:
    return await count_down(n - 1) if n else 0


@remote(homes)
class Diary:
    def __init__(self, whose: str) -> None:
        self.whose = whose

    async def write_twice(self) -> Any:
        me: Any = Diary(self.whose)
        return (await me.write()).unwrap()

    async def write_in(self, other: str) -> Any:
        theirs: Any = Diary(other)
        return (await theirs.write()).unwrap()

    async def write(self) -> str:
        return self.whose


@pytest.mark.parametrize(
    ("function", "arguments", "lacks", "chain"),
    [
        (train, (), "a GPU", "train on 'card' → infer on 'same-card'"),
        (train_again, (1,), "a GPU", "train_again on 'card' (2 times)"),
        (train_between, (), "a GPU", "train_between on 'card' → pass_on on 'between' → infer on 'same-card'"),
        (train_but_first_rest, (), "a GPU", "train_but_first_rest on 'card' → infer on 'same-card'"),
        (load_both, (), "MB of memory", "load_both on 'large' → load on 'also-large'"),
    ],
)
def test_a_call_that_needs_what_its_callers_hold_is_ended_with_their_chain(
    function: Any, arguments: tuple[int, ...], lacks: str, chain: str
) -> None:
    result = function.with_options(max_retries=3).sync(*arguments)

    assert result.error is not None
    assert "can never start: it waits for" in result.error
    assert lacks in result.error
    assert chain in result.error
    assert result.attempts == 1


def test_a_load_balanced_function_that_needs_the_card_that_it_holds_is_told_so() -> None:
    with pytest.raises(RemoteError, match=r"a GPU, .*: serve on 'card-directly' → infer on 'same-card'"):
        serve.sync()


def test_a_call_of_a_load_balanced_function_is_ended_as_well() -> None:
    result = train_and_ask.sync()

    assert result.error is not None
    assert "train_and_ask on 'card' → serve on 'card-directly'" in result.error


def test_an_instance_that_calls_itself_is_told_so() -> None:
    diary: Any = Diary("mine")
    result = diary.write_twice.sync()

    assert result.error is not None
    assert "the worker of its instance" in result.error
    assert "Diary.write_twice on 'homes' → Diary.write on 'homes'" in result.error
    assert diary.write.sync().unwrap() == "mine"


def test_an_instance_may_call_another_of_its_class() -> None:
    diary: Any = Diary("mine")
    assert diary.write_in.sync("yours").unwrap() == "yours"


@pytest.mark.parametrize("function", [ping, count_down])
def test_workers_that_only_wait_lend_their_places(function: Any) -> None:
    result = function.sync(3)

    assert (result if isinstance(result, int) else result.unwrap()) == 0


def test_the_card_is_free_again_after_all_that() -> None:
    assert infer.sync().unwrap() == "inferred"
