"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_markdown_is_rendered_by_packages_of_the_worker(client: AsyncClient) -> None:
    response = await client.post("/cpu/markdown", json={"text": "# Title\n\n- [x] done"})

    assert response.status_code == 200, response.text
    assert response.json()["headings"] == ["Title"]
    assert 'type="checkbox"' in response.json()["html"]
    assert response.json()["version"] == "4.0.0"


@pytest.mark.asyncio
async def test_json_is_filtered_by_a_program_of_the_system(client: AsyncClient) -> None:
    response = await client.post("/cpu/filter", json={"document": {"a": [1, 2]}, "program": ".a[]"})

    assert response.status_code == 200, response.text
    assert response.json() == {"results": [1, 2]}


@pytest.mark.asyncio
async def test_a_program_that_is_none_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/cpu/filter", json={"document": {}, "program": ".["})

    assert response.status_code == 400
