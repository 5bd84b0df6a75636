"""What a type checker makes of functions on a queue."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from typing_extensions import assert_type

from runpod_flash import CpuLiveServerless, CpuServerlessEndpoint, JobHandle, JobOutput, remote
from runpod_flash.client.function import RemoteFunction


@remote(resource_config=CpuLiveServerless(name="typed"), dependencies=["six"], timeout=5)
async def joined(text: str, times: int = 1, *, upper: bool = False) -> dict[str, str]:
    return {"text": text * times}


@remote(CpuServerlessEndpoint("typed"))
def length(text: str) -> int:
    return len(text)


async def calls() -> None:
    assert_type(await joined("a", 2, upper=True), JobOutput[dict[str, str]])
    assert_type(await joined.remote("a"), JobOutput[dict[str, str]])
    assert_type(await joined.local("a"), JobOutput[dict[str, str]])
    assert_type(await length("a"), JobOutput[int])
    assert_type(await joined.with_options(timeout=2)("a"), JobOutput[dict[str, str]])
    call: Awaitable[JobOutput[dict[str, str]]] = joined("a")
    await call


async def outputs() -> None:
    job = await length("a")
    assert_type(job.output, int | None)
    assert_type(job.unwrap(), int)
    assert_type(job.error, str | None)
    assert_type(job.status, str)
    assert_type(job.execution_time, int)
    assert_type(job.exception, BaseException | None)


async def handles() -> None:
    handle = await length.spawn("a")
    assert_type(handle, JobHandle[int])
    assert_type(await handle, JobOutput[int])
    assert_type(await handle.result(timeout=1), int)
    assert_type(await length.spawn("a", idempotency_key="k"), JobHandle[int])
    assert_type(length.sync.spawn("a").sync.result(), int)
    assert_type(JobHandle.from_id("1"), JobHandle[Any])


async def many() -> None:
    assert_type(length.map(["a"]), AsyncIterator[JobOutput[int]])
    assert_type(length.map(["a"], ordered=False, in_flight=3), AsyncIterator[JobOutput[int]])
    assert_type(joined.map(["a"], [1]), AsyncIterator[JobOutput[dict[str, str]]])
    assert_type(joined.starmap([("a", 1)]), AsyncIterator[JobOutput[dict[str, str]]])
    async for job in length.map(["a"]):
        assert_type(job, JobOutput[int])


def blocking() -> None:
    assert_type(length.sync("a"), JobOutput[int])
    assert_type(length.sync.map(["a"]), Iterator[JobOutput[int]])
    assert_type(joined.sync.starmap([("a", 1)]), Iterator[JobOutput[dict[str, str]]])


async def mistakes() -> None:
    await joined(1)  # E: arg-type
    await joined()  # E: call-arg
    await joined("a", upper="yes")  # E: arg-type
    await joined("a", lower=True)  # E: call-arg
    await joined.remote(1)  # E: arg-type
    await joined.local(1)  # E: arg-type
    await joined.spawn(1)  # E: call-overload
    joined.sync(1)  # E: arg-type
    joined.sync.spawn(1)  # E: call-overload
    number: int = await length("a")  # E: assignment
    text: str = (await length("a")).unwrap()  # E: assignment
    joined("a")  # E: unused-coroutine
    print(number, text)


@remote(CpuLiveServerless("typed"), dependancies=["six"])  # E: call-overload, untyped-decorator
async def misspelt() -> None: ...


@remote(CpuLiveServerless("typed"), path="/typed")  # E: call-overload, untyped-decorator
async def routed() -> None: ...


@remote("typed")  # E: call-overload, untyped-decorator
async def without_a_resource() -> None: ...


def takes(function: RemoteFunction[[str], int, JobOutput[int]]) -> None:
    function.sync("a")


takes(length)
