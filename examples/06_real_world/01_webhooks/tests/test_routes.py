"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

import hashlib
import hmac
from pathlib import Path

import pytest
from httpx import AsyncClient, Response

PUSH = (Path(__file__).parents[1] / "inputs" / "push.json").read_bytes()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "of the tests")


async def deliver(client: AsyncClient, delivery: str, secret: str = "of the tests", body: bytes = PUSH) -> Response:
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Delivery": delivery, "X-Signature-256": signature}
    return await client.post("/cpu/hooks/push", content=body, headers=headers)


@pytest.mark.asyncio
async def test_a_delivery_starts_one_job_however_often_it_comes(client: AsyncClient) -> None:
    first, again, other = [await deliver(client, name) for name in ("d-1", "d-1", "d-2")]

    assert first.status_code == 202, first.text
    assert again.json() == first.json()
    assert other.json() != first.json()
    review = (await client.get(f"/cpu/reviews/{first.json()['job_id']}?wait=true")).json()
    assert review["status"] == "COMPLETED"
    assert review["review"]["kinds"] == {"feat": 1, "fix": 1, "other": 1}


@pytest.mark.asyncio
async def test_a_delivery_of_somebody_else_is_refused(client: AsyncClient) -> None:
    assert (await deliver(client, "d-3", secret="guessed")).status_code == 401


@pytest.mark.asyncio
async def test_without_a_secret_no_delivery_is_taken(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")

    assert (await deliver(client, "d-4", secret="")).status_code == 401


@pytest.mark.asyncio
async def test_a_body_that_is_no_push_is_told_what_is_wrong(client: AsyncClient) -> None:
    response = await deliver(client, "d-5", body=b'{"repository": "example/shop"}')

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["commits"]
