"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import asyncio

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_requests_that_come_together_are_worked_on_together(client: AsyncClient) -> None:
    await client.post("/cpu/score", json={"text": "start the worker"})
    before = (await client.get("/cpu/facts")).json()

    answers = await asyncio.gather(*(client.post("/cpu/score", json={"text": f"aei{n}"}) for n in range(24)))
    after = (await client.get("/cpu/facts")).json()

    assert {answer.status_code for answer in answers} == {200}
    assert answers[3].json()["score"] == 0.75
    assert after["items"] - before["items"] == 24
    assert after["runs"] - before["runs"] < 24
    assert max(answer.json()["batch"] for answer in answers) > 1
