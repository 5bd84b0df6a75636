"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_the_pipeline_judges_reviews(client: AsyncClient) -> None:
    texts = ["Great quality, works perfectly", "Broke after a week, terrible"]
    response = await client.post("/classify", json={"texts": texts})

    assert response.status_code == 200, response.text
    assert response.json()["labels"] == ["positive", "negative"]
    assert response.json()["positive_share"] == 0.5


@pytest.mark.asyncio
async def test_labels_that_do_not_fit_are_a_bad_request(client: AsyncClient) -> None:
    body = {"known": [{"a": 1}, {"b": 1}], "labels": [1, 1], "features": [{"a": 1}]}
    response = await client.post("/gpu/score", json=body)

    assert response.status_code == 400
