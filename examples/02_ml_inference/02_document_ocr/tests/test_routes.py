"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

from pathlib import Path

import pytest
from httpx import AsyncClient

INVOICE = Path(__file__).parents[1] / "inputs" / "invoice.jpg"


@pytest.mark.asyncio
async def test_an_invoice_is_read(client: AsyncClient) -> None:
    response = await client.post("/gpu/read", files={"file": INVOICE.read_bytes()})

    assert response.status_code == 200, response.text
    texts = [line["text"].replace(" ", "") for line in response.json()["lines"]]
    assert "HarbourBakery" in texts
    assert texts[texts.index("Totaldue") + 1] == "203.50"
    assert all(line["confidence"] > 0.8 for line in response.json()["lines"])


@pytest.mark.asyncio
async def test_what_is_no_picture_is_a_bad_request(client: AsyncClient) -> None:
    response = await client.post("/gpu/read", files={"file": b"a text"})

    assert response.status_code == 400
    assert "no picture" in response.json()["detail"]


@pytest.mark.asyncio
async def test_an_empty_file_is_refused_without_a_worker(client: AsyncClient) -> None:
    response = await client.post("/gpu/read", files={"file": b""})

    assert response.status_code == 400
