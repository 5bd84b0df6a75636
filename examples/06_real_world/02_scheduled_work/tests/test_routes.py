"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_a_slot_is_run_once_however_often_it_is_asked_for(client: AsyncClient) -> None:
    one, other = [(await client.post("/cpu/schedules/disk/run")).json() for _ in range(2)]

    if one["slot"] == other["slot"]:  # an hour may have ended between the two
        assert one == other
    listed = {each["name"]: each for each in (await client.get("/cpu/schedules")).json()}
    assert other["job_id"] in listed["disk"]["last_runs"]
    assert set(listed) == {"disk", "load"}


@pytest.mark.asyncio
async def test_a_schedule_that_there_is_not_is_not_found(client: AsyncClient) -> None:
    response = await client.post("/cpu/schedules/moon/run")

    assert response.status_code == 404
    assert response.json() == {"detail": "No schedule is called moon; there are disk, load"}
