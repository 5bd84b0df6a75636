"""`local=True` and `.local`: the same results, in this process."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, MissingVariableError, remote

queue = CpuLiveServerless("local_tests", env={"FROM_RESOURCE": "r"})
balanced = CpuLiveLoadBalancer("local_lb")


def test_async_and_plain_functions_give_a_job_output() -> None:
    @remote(queue, local=True)
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @remote(queue, local=True)
    def now(x: int) -> int:
        return x + 1

    for function in (later, now):
        job = asyncio.run(function(1))
        assert (job.status, job.output, job.attempts) == ("COMPLETED", 2, 1)
        assert job.id
        assert job.started_at <= job.ended_at
    assert now.sync(4).output == 5


def test_a_function_of_an_engine_can_be_called_here_too() -> None:
    @remote(queue)
    def double(x: int) -> int:
        return x * 2

    assert asyncio.run(double.local(2)).output == 4


def test_a_failure_is_a_failed_job_unless_it_is_asked_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    @remote(queue, local=True, max_retries=3)
    def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    calls: list[int] = []
    job = asyncio.run(fail())
    assert job.error == "ValueError: no"
    assert isinstance(job.exception, ValueError)
    assert job.traceback is not None
    assert 'raise ValueError("no")' in job.traceback
    assert len(calls) == 1, "there are no retries here"
    monkeypatch.setenv("FLASH_LOCAL_RAISES", "1")
    with pytest.raises(ValueError, match="no"):
        asyncio.run(fail())


def test_on_a_load_balanced_resource_the_value_is_bare_and_errors_are_raised() -> None:
    @remote(balanced, local=True)
    async def value() -> dict[str, int]:
        return {"a": 1}

    @remote(balanced, local=True)
    def fail() -> None:
        raise KeyError("x")

    assert type(asyncio.run(value())) is dict
    with pytest.raises(KeyError):
        asyncio.run(fail())


def test_async_code_is_ended_at_its_timeout() -> None:
    @remote(queue, local=True, timeout=0.05)
    async def forever() -> None:
        await asyncio.sleep(60)

    job = asyncio.run(forever())
    assert job.status == "TIMED_OUT"
    assert job.error == "JobTimeout: forever took longer than its timeout of 0.05 s"


def test_variables_are_there_during_the_call_however_calls_overlap() -> None:
    @remote(queue, local=True, env={"ADDED": "1"})
    async def look(pause: float) -> tuple[str | None, str | None]:
        await asyncio.sleep(pause)
        return os.environ.get("ADDED"), os.environ.get("FROM_RESOURCE")

    async def main() -> list[Any]:
        return [job.output for job in await asyncio.gather(look(0.03), look(0.0), look(0.01))]

    assert asyncio.run(main()) == [("1", "r")] * 3
    assert "ADDED" not in os.environ


def test_a_missing_variable_is_an_error_before_the_function_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)

    @remote(queue, local=True, env={"NOWHERE": None})
    def never() -> None:
        raise AssertionError

    with pytest.raises(MissingVariableError, match="NOWHERE"):
        asyncio.run(never())


def test_generators_give_a_list_and_maps_work() -> None:
    @remote(queue, local=True)
    def count(n: int) -> Any:
        yield from range(n)

    async def main() -> list[Any]:
        mapped = [job.output async for job in count.map([1, 2])]
        unordered = [job.output async for job in count.map([3, 3], ordered=False)]
        return mapped + unordered

    assert asyncio.run(main()) == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
