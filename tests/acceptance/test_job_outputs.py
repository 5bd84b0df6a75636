"""Results of real jobs, used as the values that they are: in further calls, and by a web application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

from runpod_flash import CpuLiveServerless, RemoteError, remote
from runpod_flash.testing import isolated_engine

config = CpuLiveServerless("outputs", workersMax=1)


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """One engine for all tests of this file."""
    with isolated_engine(FLASH_APP="outputs"):
        yield


@remote(config, max_retries=0)
def measure(place: str) -> dict[str, Any]:
    if place == "nowhere":
        raise ValueError(f"the thermometer at {place} has the secret number 7")
    return {"place": place, "celsius": [1.5, 2.5]}


@remote(config, max_retries=0)
def kinds(*values: Any, **named: Any) -> list[str]:
    def kind(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return f"{type(value).__name__} of {', '.join(map(kind, value))}"
        return type(value).__name__

    return [kind(value) for value in (*values, *named.values())]


def test_results_are_arguments_of_further_calls_by_value() -> None:
    async def main() -> None:
        job = await measure("roof")
        names = await kinds(job, [job, (job,)], named=job, mean=sum(job["celsius"]) / 2)  # type: ignore[index]
        assert names.unwrap() == ["dict", "list of dict, tuple of dict", "dict", "float"]
        assert (await kinds(names)).unwrap() == ["list of str, str, str, str"]
        assert [each.unwrap() async for each in kinds.map([job, names])] == [["dict"], ["list of str, str, str, str"]]

    asyncio.run(main())


def test_a_failed_result_as_an_argument_raises_its_own_error_and_nothing_is_sent() -> None:
    async def main() -> None:
        job = await measure("nowhere")
        for argument in (job, [{"deep": job}]):
            with pytest.raises(RemoteError, match="the thermometer") as caught:
                await kinds(argument)
            assert isinstance(caught.value, ValueError)

    asyncio.run(main())


class Summary(BaseModel):
    place: str
    celsius: list[float]


app = FastAPI()


@app.get("/bare/{place}")
async def bare(place: str):  # type: ignore[no-untyped-def]
    return await measure(place)


@app.get("/typed/{place}")
async def typed(place: str) -> Summary:
    job: Any = await measure(place)
    return job  # type: ignore[no-any-return]


@app.get("/changed/{place}")
async def changed(place: str) -> dict[str, Any]:
    job: Any = await measure(place)
    return {**job, "mean": sum(job["celsius"]) / 2}


@app.get("/many/{place}", response_model=list[Summary])
async def many(place: str) -> Any:
    return await asyncio.gather(measure("roof"), measure(place))


@app.get("/blocking/{place}")
def blocking(place: str) -> Any:
    return measure.sync(place)


ROUTES = {
    "bare": {"place": "cellar", "celsius": [1.5, 2.5]},
    "typed": {"place": "cellar", "celsius": [1.5, 2.5]},
    "changed": {"place": "cellar", "celsius": [1.5, 2.5], "mean": 2.0},
    "many": [{"place": "roof", "celsius": [1.5, 2.5]}, {"place": "cellar", "celsius": [1.5, 2.5]}],
    "blocking": {"place": "cellar", "celsius": [1.5, 2.5]},
}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_routes_answer_with_results_and_never_show_the_inside_of_a_failure(run: Any) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for route, expected in ROUTES.items():
                answer = await client.get(f"/{route}/cellar")
                assert (answer.status_code, answer.json()) == (200, expected), route
                failure = await client.get(f"/{route}/nowhere")
                assert failure.status_code == 500, route
                assert "secret" not in failure.text, route

    run(main())
