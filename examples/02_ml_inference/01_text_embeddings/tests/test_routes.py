"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import json
from pathlib import Path

import pytest
from httpx import AsyncClient

SEARCH = Path(__file__).parents[1] / "inputs" / "search.json"


@pytest.mark.asyncio
async def test_a_question_finds_its_answer_by_meaning(client: AsyncClient) -> None:
    response = await client.post("/gpu/search", json=json.loads(SEARCH.read_text(encoding="utf-8")))

    assert response.status_code == 200, response.text
    assert "refund" in response.json()["hits"][0]["text"]


@pytest.mark.asyncio
async def test_texts_that_mean_the_same_have_vectors_that_are_close(client: AsyncClient) -> None:
    response = await client.post("/gpu/embed", json={"texts": ["a small dog", "a little puppy", "interest rates rise"]})

    assert response.status_code == 200, response.text
    dog, puppy, rates = response.json()["vectors"]
    assert len(dog) == 384
    assert sum(a * a for a in dog) == pytest.approx(1, abs=1e-4)
    near, far = (sum(a * b for a, b in zip(dog, other, strict=True)) for other in (puppy, rates))
    assert near > far + 0.3
