"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import json
from pathlib import Path

import pytest
from httpx import AsyncClient

ELEMENTS = Path(__file__).parents[1] / "inputs" / "elements.json"


@pytest.mark.asyncio
async def test_a_table_is_there_for_the_other_function(client: AsyncClient) -> None:
    stored = await client.post("/cpu/tables", json=json.loads(ELEMENTS.read_text(encoding="utf-8")))
    asked = await client.post("/cpu/query", json={"sql": "SELECT name FROM elements ORDER BY mass DESC LIMIT 1"})

    assert stored.json()["rows"] == 20
    assert asked.json() == {"columns": ["name"], "rows": [["Calcium"]]}


@pytest.mark.asyncio
async def test_sql_that_is_none_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/cpu/query", json={"sql": "SELEC 1"})

    assert response.status_code == 400
