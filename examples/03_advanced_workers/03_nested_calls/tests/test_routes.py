"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import json
from pathlib import Path

import pytest
from httpx import AsyncClient

SONNETS = Path(__file__).parents[1] / "inputs" / "sonnets.json"


@pytest.mark.asyncio
@pytest.mark.parametrize("parts", [1, 4, 40])
async def test_the_parts_add_up_however_many_there_are(client: AsyncClient, parts: int) -> None:
    body = {**json.loads(SONNETS.read_text(encoding="utf-8")), "parts": parts}
    response = await client.post("/cpu/report", json=body)

    assert response.status_code == 200, response.text
    assert response.json()["words"] == 478
    assert ["love", 7] in response.json()["most_common"]


@pytest.mark.asyncio
async def test_too_many_parts_are_refused(client: AsyncClient) -> None:
    assert (await client.post("/cpu/report", json={"text": "a", "parts": 1000})).status_code == 422
