"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from gpu_worker import gpu_hello


@pytest.mark.asyncio
async def test_the_function_greets() -> None:
    result = (await gpu_hello.local("hello")).unwrap()

    assert result["message"] == "hello"
    assert result["worker_type"] == "gpu"


@pytest.mark.asyncio
async def test_a_message_of_blanks_is_refused() -> None:
    job = await gpu_hello.local("   ")

    assert isinstance(job.exception, ValueError)
