"""The routes, over HTTP, with functions that run on real workers of an engine that these tests have to themselves."""

from pathlib import Path

import pytest
from httpx import AsyncClient

INPUTS = Path(__file__).parents[1] / "inputs"


async def upload(client: AsyncClient, *files: tuple[str, bytes]) -> dict[str, object]:
    taken = await client.post("/cpu/documents", files=[("files", file) for file in files])
    assert taken.status_code == 202, taken.text
    found: dict[str, object] = (await client.get(f"/cpu/documents/{taken.json()['job_id']}?wait=true")).json()
    return found


@pytest.mark.asyncio
async def test_documents_are_found_by_their_words_and_those_that_are_none_are_reported(client: AsyncClient) -> None:
    names = ("bread.md", "bicycle.md", "holiday.png")
    done = await upload(client, *((name, (INPUTS / name).read_bytes()) for name in names))

    assert done["status"] == "COMPLETED"
    assert done["documents"] == 2
    assert done["refused"] == {"holiday.png": "ValueError: holiday.png is no text"}
    hits = (await client.get("/cpu/search", params={"words": "oiled chains"})).json()["hits"]
    assert [(hit["document"], hit["heading"]) for hit in hits] == [("bicycle.md", "Chain")]


@pytest.mark.asyncio
async def test_a_document_that_comes_again_takes_the_place_of_the_old_one(client: AsyncClient) -> None:
    await upload(client, ("moon.md", b"# Moon\nmade of cheese"))
    await upload(client, ("moon.md", b"# Moon\nmade of basalt"))

    assert (await client.get("/cpu/search", params={"words": "cheese"})).json() == {"hits": []}
    assert len((await client.get("/cpu/search", params={"words": "basalt"})).json()["hits"]) == 1


@pytest.mark.asyncio
async def test_a_search_for_no_word_is_a_bad_request(client: AsyncClient) -> None:
    assert (await client.get("/cpu/search", params={"words": "?!"})).status_code == 400
