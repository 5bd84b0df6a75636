"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

from pathlib import Path

import pytest
from httpx import AsyncClient

INPUTS = Path(__file__).parents[1] / "inputs"


@pytest.mark.asyncio
async def test_a_recording_is_measured(client: AsyncClient) -> None:
    response = await client.post("/cpu/sound", files={"file": (INPUTS / "melody.wav").read_bytes()})

    assert response.status_code == 200, response.text
    assert response.json()["seconds"] == 5.0
    assert -40 < response.json()["loudness_lufs"] < 0
    assert len(response.json()["levels"]) == 60


@pytest.mark.asyncio
async def test_a_picture_becomes_a_small_jpeg(client: AsyncClient) -> None:
    picture = (INPUTS / "grace_hopper.jpg").read_bytes()
    response = await client.post("/cpu/thumbnail?width=100", files={"file": picture})

    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/jpeg"
    assert response.content.startswith(b"\xff\xd8")
    assert len(response.content) < len(picture) / 5


@pytest.mark.asyncio
@pytest.mark.parametrize("route", ["/cpu/sound", "/cpu/thumbnail"])
async def test_what_is_no_media_is_a_bad_request(client: AsyncClient, route: str) -> None:
    response = await client.post(route, files={"file": b"a text"})

    assert response.status_code == 400
