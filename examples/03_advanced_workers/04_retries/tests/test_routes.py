"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import pytest
from httpx import AsyncClient


@pytest.mark.asyncio
async def test_an_order_is_paid_once_through_outages_and_repetition(client: AsyncClient) -> None:
    first = await client.post("/cpu/payments", json={"order_id": "C-1", "cents": 700, "outages": 1})
    again = await client.post("/cpu/payments", json={"order_id": "C-1", "cents": 700})

    assert first.status_code == 200, first.text
    assert first.json()["attempts"] == 2
    assert again.json() == first.json()
    assert (await client.get("/cpu/orders/C-1")).json() == {"order_id": "C-1", "payments": [700]}


@pytest.mark.asyncio
async def test_an_order_that_was_never_sent_has_no_payments(client: AsyncClient) -> None:
    assert (await client.get("/cpu/orders/C-2")).json()["payments"] == []


@pytest.mark.asyncio
async def test_an_amount_of_nothing_is_refused(client: AsyncClient) -> None:
    assert (await client.post("/cpu/payments", json={"order_id": "C-3", "cents": 0})).status_code == 422
