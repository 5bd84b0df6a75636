"""Calls from inside workers: a remote function awaits another, on a real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, JobHandle, remote
from runpod_flash.client import transport
from runpod_flash.wire.messages import Query
from tests.waiting import PATIENCE_S, async_until, awaited

pytestmark = pytest.mark.usefixtures("engine")


async def listed(**filter: Any) -> list[dict[str, Any]]:
    rows = await transport.current().request(Query(what="jobs", filter=filter))
    return list(rows.rows)


top = CpuLiveServerless(name="top")
middle = CpuLiveServerless(name="middle")
bottom = CpuLiveServerless(name="bottom")
single = CpuLiveServerless(name="single", workersMax=1)
balanced = CpuLiveLoadBalancer(name="balanced", workersMax=1)


class OutOfTea(Exception):
    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


@remote(bottom)
async def add(a: int, b: int) -> tuple[int, int]:
    import os

    return a + b, os.getpid()


@remote(middle)
async def double(a: int) -> tuple[int, set[int]]:
    import os

    total, pid = (await add(a, a)).unwrap()
    return total, {pid, os.getpid()}


@remote(top)
async def quadruple(a: int) -> tuple[int, set[int]]:
    import os

    once, some = (await double(a)).unwrap()
    twice, others = (await double(once)).unwrap()
    return twice, some | others | {os.getpid()}


@remote(top)
def quadruple_plainly(a: int) -> int:
    return double.sync(double.sync(a).unwrap()[0]).unwrap()[0]


@remote(top)
async def all_doubled(numbers: list[int]) -> list[int]:
    return [result.unwrap()[0] async for result in double.map(numbers)]


@remote(bottom)
async def brew(left: int) -> None:
    raise OutOfTea(left)


@remote(middle)
async def serve(left: int) -> None:
    (await brew(left)).unwrap()


@remote(single)
async def fibonacci(n: int) -> int:
    if n < 2:
        return n
    one, other = await fibonacci(n - 1), await fibonacci(n - 2)
    return one.unwrap() + other.unwrap()


@remote(single)
async def fibonacci_at_once(n: int) -> int:
    import asyncio

    if n < 2:
        return n
    one, other = await asyncio.gather(fibonacci_at_once(n - 1), fibonacci_at_once(n - 2))
    return one.unwrap() + other.unwrap()


@remote(single)
async def down_for_ever(depth: int) -> int:
    if depth < 4:
        return (await down_for_ever(depth + 1)).unwrap()
    return await down_in_one_worker(depth + 1)


@remote(balanced)
async def down_in_one_worker(depth: int) -> int:
    return await down_in_one_worker(depth + 1)


@remote(bottom)
async def hold(begun: str, ended: str) -> None:
    import asyncio
    from pathlib import Path

    Path(begun).touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(ended).touch()


@remote(middle)
async def have_held(begun: str, ended: str) -> None:
    await hold(begun, ended)


@remote(top)
async def have_it_held(begun: str, ended: str) -> None:
    await have_held(begun, ended)


@remote(bottom)
async def wait_below(folder: str, n: int) -> int:
    import asyncio
    import os
    from pathlib import Path

    Path(folder, f"below-{n}-{os.getpid()}").touch()
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)
    return n


@remote(top)
async def wait_above(folder: str, n: int) -> int:
    import os
    from pathlib import Path

    Path(folder, f"above-{n}-{os.getpid()}").touch()
    return (await wait_below(folder, n)).unwrap()


@remote(top)
def leave_behind(folder: str, n: int) -> str:
    return wait_below.sync.spawn(folder, n).id


@remote(middle, dependencies=["msgspec==0.17.0"])
async def call_with_an_old_msgspec() -> Any:
    return await add(1, 1)


@remote(bottom)
async def measured(data: bytes) -> bytes:
    return data[: len(data) // 2]


@remote(top)
async def have_measured(size: int) -> list[int]:
    data = b"x" * size
    return [len((await measured(data)).unwrap()), len((await measured(data)).unwrap())]


@remote(balanced)
async def relayed(a: int) -> int:
    return (await double(a)).unwrap()[0]


@remote(top)
async def through_the_balancer(a: int) -> int:
    return await relayed(a)


@remote(top)
async def call_given(function: Any, a: int) -> Any:
    return (await function(a)).unwrap()[0]


@awaited
async def test_functions_on_three_endpoints_call_one_another() -> None:
    value, pids = (await quadruple(3)).unwrap()

    assert value == 12
    assert len(pids) >= 3
    assert os.getpid() not in pids


@awaited
async def test_a_plain_function_calls_with_sync() -> None:
    assert (await quadruple_plainly(2)).unwrap() == 8


@awaited
async def test_a_function_maps_over_another() -> None:
    assert (await all_doubled(list(range(8)))).unwrap() == [2 * n for n in range(8)]


@awaited
async def test_a_function_that_arrives_as_an_argument_can_be_called() -> None:
    assert (await call_given(double, 4)).unwrap() == 8


@awaited
async def test_an_exception_keeps_its_type_through_two_levels() -> None:
    result = await serve(3)

    with pytest.raises(OutOfTea) as caught:
        result.unwrap()
    assert caught.value.left == 3


@awaited
async def test_queue_and_load_balancer_call_each_other() -> None:
    assert (await through_the_balancer(5)).unwrap() == 10


@pytest.mark.parametrize("function", [fibonacci, fibonacci_at_once])
def test_an_endpoint_that_calls_itself_gets_room_beyond_its_last_worker(function: Any) -> None:
    assert function.sync(6).unwrap() == 8


@awaited
async def test_a_recursion_without_an_end_is_ended() -> None:
    result = await down_for_ever(0)

    assert result.error is not None
    assert "50 deep" in result.error
    assert result.attempts == 1


@awaited
async def test_cancelling_the_outermost_cancels_all_below(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    call = asyncio.create_task(_await(have_it_held(str(begun), str(ended))))
    await async_until(begun.exists)

    call.cancel()

    await async_until(ended.exists)
    names = "have_it_held", "have_held", "hold"
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + PATIENCE_S
    while not rows or not all(row["ended_at_ms"] for row in rows):
        assert time.monotonic() < end, rows
        rows = [row for row in await listed() if row["fn"].rpartition(":")[2] in names]
    assert [row["status"] for row in rows] == ["CANCELLED"] * 3


@pytest.mark.parametrize("outer", [have_held, have_it_held])
def test_a_timeout_ends_what_the_job_waits_for(outer: Any, tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    result = outer.with_options(timeout=2, max_retries=0).sync(str(begun), str(ended))

    assert result.status == "TIMED_OUT"
    asyncio.run(async_until(ended.exists))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="no msgspec older than 0.18 can be installed on Python 3.13")
def test_an_old_msgspec_of_the_workers_own_is_told_with_the_mend() -> None:
    result = call_with_an_old_msgspec.sync()

    assert result.error is not None
    assert "calls from this worker need msgspec 0.18 or newer, and its environment has 0.17.0" in result.error
    assert 'dependencies=["msgspec>=0.18"' in result.error


def test_large_arguments_travel_from_a_worker_without_the_hash_that_names_them_elsewhere() -> None:
    half = 1 << 20

    assert have_measured.sync(2 * half).unwrap() == [half, half]


async def _await(work: Coroutine[Any, Any, Any]) -> Any:
    return await work


@awaited
async def test_the_tree_of_calls_is_on_record() -> None:
    result = await quadruple(1)

    (told,) = (await transport.current().request(Query(what="job", filter={"job": result.id}))).rows

    assert told["parent"] == ""
    assert [row["fn"].rpartition(":")[2] for row in await listed(parent=result.id)] == ["double", "double"]
    assert [(call["depth"], call["fn"].rpartition(":")[2], call["status"]) for call in told["calls"]] == [
        (1, "double", "COMPLETED"),
        (2, "add", "COMPLETED"),
    ] * 2


@pytest.mark.parametrize(("killed", "attempts"), [("below", 1), ("above", 2), ("engine", 1)])
def test_a_call_within_a_call_survives_the_death_of(killed: str, attempts: int, tmp_path: Path) -> None:
    async def call() -> Any:
        call = asyncio.create_task(_await(wait_above(str(tmp_path), 7)))
        await async_until(lambda: list(tmp_path.glob("below*")))
        if killed == "engine":
            os.kill((await transport.current().ready()).pid, signal.SIGKILL)
        else:
            (victim,) = tmp_path.glob(f"{killed}*")
            os.kill(int(victim.name.rpartition("-")[2]), signal.SIGKILL)
            await async_until(lambda: len(list(tmp_path.glob(f"{killed}*"))) > 1)
        (tmp_path / "go").touch()
        return await call

    result = asyncio.run(call())

    assert (result.unwrap(), result.attempts) == (7, attempts)


def test_a_spawned_call_outlives_the_one_that_made_it(tmp_path: Path) -> None:
    handle: JobHandle[int] = JobHandle(leave_behind.sync(str(tmp_path), 3).unwrap(), "wait_below")

    (tmp_path / "go").touch()

    assert handle.sync.result(timeout=PATIENCE_S) == 3
