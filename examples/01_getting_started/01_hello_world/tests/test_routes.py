"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_the_route_answers_from_a_worker(client: AsyncClient) -> None:
    response = await client.post("/gpu/hello", json={"message": "hello"})

    assert response.status_code == 200, response.text
    assert response.json()["message"] == "hello"


@pytest.mark.asyncio
async def test_input_that_the_function_refuses_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/gpu/hello", json={"message": "   "})

    assert response.status_code == 400
    assert response.json() == {"detail": "Invalid input: the message has only blanks"}


@pytest.mark.asyncio
async def test_a_request_that_is_none_is_told_what_is_wrong(client: AsyncClient) -> None:
    response = await client.post("/gpu/hello", json={"message": ""})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "message"]
