"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import shutil

import pytest

from cpu_worker import filter_json


@pytest.mark.asyncio
@pytest.mark.skipif(not shutil.which("jq"), reason="here, in this process, there is no jq: on workers there is")
async def test_a_program_is_run_over_a_document() -> None:
    assert await filter_json.local('[{"n": 1}, {"n": 2}]', ".[].n") == [1, 2]


@pytest.mark.asyncio
@pytest.mark.skipif(not shutil.which("jq"), reason="here, in this process, there is no jq: on workers there is")
async def test_a_program_that_is_none_is_refused_in_its_own_words() -> None:
    job = await filter_json.local("[]", ".[")

    assert isinstance(job.exception, ValueError)
    assert "jq: error" in str(job.exception)
