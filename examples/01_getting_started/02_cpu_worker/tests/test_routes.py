"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import json
from pathlib import Path

import pytest
from httpx import AsyncClient

ALICE = Path(__file__).parents[1] / "inputs" / "alice.json"


@pytest.mark.asyncio
async def test_the_beginning_of_alice_is_analyzed(client: AsyncClient) -> None:
    response = await client.post("/cpu/analyze", json=json.loads(ALICE.read_text(encoding="utf-8")))

    assert response.status_code == 200, response.text
    assert response.json()["words"] == 148
    assert ["alice", 3] in response.json()["frequent"]


@pytest.mark.asyncio
async def test_a_text_without_words_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/cpu/analyze", json={"text": "42!"})

    assert response.status_code == 400
    assert response.json() == {"detail": "Invalid input: the text has no words"}
