"""What a type checker makes of load-balanced functions, and of remote classes."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from typing_extensions import assert_type

from runpod_flash import CpuLiveLoadBalancer, JobHandle, LiveLoadBalancer, LiveServerless, remote


@dataclass
class Reading:
    celsius: float


@remote(resource_config=CpuLiveLoadBalancer(name="typed"), method="POST", path="/mean")
async def mean(readings: list[Reading]) -> Reading:
    return readings[0]


@remote(LiveLoadBalancer("typed"))
def twice(number: int) -> int:
    return 2 * number


async def calls() -> None:
    assert_type(await mean([Reading(1)]), Reading)
    assert_type(await mean.remote([Reading(1)]), Reading)
    assert_type(await mean.local([Reading(1)]), Reading)
    assert_type(await twice(1), int)
    assert_type(await twice.with_options(timeout=1)(1), int)
    assert_type(twice.map([1]), AsyncIterator[int])
    assert_type(twice.starmap([(1,)]), AsyncIterator[int])
    assert_type(twice.sync(1), int)
    assert_type(twice.sync.map([1]), Iterator[int])
    assert_type(await twice.spawn(1), JobHandle[int])


async def mistakes() -> None:
    await mean(Reading(1))  # E: arg-type
    await twice("1")  # E: arg-type
    (await twice(1)).unwrap()  # E: attr-defined


@remote(LiveServerless("typed"))
class Model:
    def __init__(self, name: str) -> None:
        self.name = name

    async def answer(self, question: str) -> str:
        return question


async def classes() -> None:
    model = Model("small")
    assert_type(model, Model)
    assert_type(await model.answer("why"), str)
    Model()  # E: call-arg
