"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_the_model_goes_on_in_the_words_of_its_text(client: AsyncClient) -> None:
    response = await client.post("/cpu/complete", json={"prompt": "Shall I", "words": 3, "order": 2})

    assert response.status_code == 200, response.text
    assert response.json()["text"] == "Shall I compare thee to"


@pytest.mark.asyncio
async def test_the_same_instance_has_all_calls_of_an_order(client: AsyncClient) -> None:
    before = (await client.get("/cpu/model/3")).json()
    for _ in range(3):
        await client.post("/cpu/complete", json={"prompt": "Shall I compare", "words": 1, "order": 3})
    after = (await client.get("/cpu/model/3")).json()

    assert after["process"] == before["process"]
    assert after["calls"] == before["calls"] + 3
    assert after["training_ms"] == before["training_ms"]


@pytest.mark.asyncio
async def test_an_order_that_cannot_be_is_refused(client: AsyncClient) -> None:
    assert (await client.get("/cpu/model/9")).status_code == 400
    assert (await client.post("/cpu/complete", json={"prompt": "I", "order": 9})).status_code == 422
