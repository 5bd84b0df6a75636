"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import json

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_estimates_are_events(client: AsyncClient) -> None:
    response = await client.post("/cpu/estimate", json={"batches": 3, "batch_size": 1000, "seed": 2})

    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n") if event]
    assert [event["points"] for event in events] == [1000, 2000, 3000]


@pytest.mark.asyncio
async def test_what_a_job_yields_can_be_read_again_and_again(client: AsyncClient) -> None:
    started = await client.post("/cpu/jobs", json={"batches": 3, "batch_size": 1000})
    assert started.status_code == 202, started.text

    one, other = [(await client.get(f"/cpu/jobs/{started.json()['job_id']}")).json() for _ in range(2)]

    assert one["status"] == "COMPLETED"
    assert one["progress"] == {"batch": 3, "of": 3}
    assert len(one["estimates"]) == 3
    assert other["estimates"] == one["estimates"]


@pytest.mark.asyncio
async def test_a_job_that_there_is_not_is_not_found(client: AsyncClient) -> None:
    assert (await client.get("/cpu/jobs/none")).status_code == 404
