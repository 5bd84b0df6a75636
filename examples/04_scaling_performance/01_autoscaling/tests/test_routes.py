"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import asyncio

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_several_workers_share_what_comes_at_once(client: AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/cpu/work", json={"seconds": 0.2}) for _ in range(8)))

    assert {answer.status_code for answer in answers} == {200}
    assert 1 < len({answer.json()["worker_id"] for answer in answers}) <= 4
