"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_three_calls_make_one_answer(client: AsyncClient) -> None:
    response = await client.get("/cpu/distance/oslo/cairo")

    assert response.status_code == 200, response.text
    assert response.json() == {"start": "oslo", "end": "cairo", "kilometres": pytest.approx(3655, abs=20)}


@pytest.mark.asyncio
async def test_a_city_that_is_not_known_is_not_found(client: AsyncClient) -> None:
    response = await client.get("/cpu/cities/atlantis")

    assert response.status_code == 404
    assert "reykjavik" in response.json()["detail"]


@pytest.mark.asyncio
async def test_a_matrix_that_is_not_square_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/gpu/eigenvalue", json={"matrix": [[1, 2]]})

    assert response.status_code == 400
    assert response.json() == {"detail": "Invalid input: the matrix is not square"}
