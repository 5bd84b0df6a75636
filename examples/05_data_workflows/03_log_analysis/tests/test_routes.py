"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

from pathlib import Path

import pytest
from httpx import AsyncClient

LOG = Path(__file__).parents[1] / "inputs" / "access.log"


@pytest.mark.asyncio
async def test_the_pieces_of_a_log_add_up(client: AsyncClient) -> None:
    response = await client.post("/cpu/logs", files={"file": LOG.read_bytes()})

    assert response.status_code == 200, response.text
    found = response.json()
    assert found["requests"] + found["unreadable"] == len(LOG.read_text().splitlines())
    assert found["pieces"] > 1
    assert found["failed_pieces"] == 0


@pytest.mark.asyncio
async def test_an_empty_log_is_a_bad_request(client: AsyncClient) -> None:
    assert (await client.post("/cpu/logs", files={"file": b" "})).status_code == 400
