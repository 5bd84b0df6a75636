"""Load-balanced functions, asked over HTTP: a real client, the gateway, and workers in environments of their own."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pydantic
import pytest
from fastapi import HTTPException, Request, UploadFile
from fastapi.responses import StreamingResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runpod_flash import CpuLiveLoadBalancer, remote
from runpod_flash.testing import IsolatedEngine
from tests.waiting import PATIENCE_S, until

plain = CpuLiveLoadBalancer(name="plain", workersMax=1)
web = CpuLiveLoadBalancer(name="web", workersMax=1)
PACKAGES = ["fastapi", "python-multipart"]


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0


class Order(pydantic.BaseModel):
    item: str = pydantic.Field(min_length=2)
    count: int = 1


@remote(plain, method="GET", path="/hello/{name}")
async def hello(name: str, times: int = 1) -> dict[str, str]:
    """Greets."""
    return {"text": f"hello {name} " * times}


@remote(plain)
def move(at: Point, by: int = 1) -> Point:
    return Point(at.x + by, at.y)


@remote(plain)
async def double(data: bytes) -> bytes:
    return data * 2


@remote(plain)
async def broken(how: str) -> None:
    if how == "value":
        raise ValueError("there is no tea")
    raise RuntimeError("secret")


@remote(plain)
async def ticks(marks: str, n: int) -> AsyncIterator[Any]:
    import asyncio
    from pathlib import Path

    try:
        for i in range(n):
            yield {"i": i} if i else "first"
        if n:
            await asyncio.Event().wait()
    finally:
        (Path(marks) / "closed").touch()


@remote(plain)
async def echo(
    name: str, numbers: list[int], at: Point, ratio: float = 0.5, flag: bool = False, note: str | None = None
) -> Any:
    return [name, numbers, at, ratio, flag, note]


@remote(plain, method="GET")
async def search(q: str, at: float = 0, tags: list[str] = [], limit: int | None = None) -> Any:  # noqa: B006
    return [q, at, tags, limit]


@remote(plain)
async def whole(data: dict[str, Any]) -> Any:
    return data


@remote(web, dependencies=PACKAGES)
async def order(request: Request, order: Order) -> Any:
    if order.count > 9:
        raise HTTPException(409, "so many", {"x-most": "9"})
    return {"item": order.item, "path": request.url.path}


@remote(web, dependencies=PACKAGES)
async def upload(file: UploadFile, title: str) -> Any:
    return [file.filename, len(await file.read()), title]


@remote(web, dependencies=PACKAGES)
async def letters(n: int) -> Any:
    def body() -> Iterator[str]:
        for i in range(n):
            yield "abc"[i % 3]

    return StreamingResponse(body(), media_type="text/plain")


@pytest.fixture(scope="module")
def client(engine: IsolatedEngine) -> Iterator[httpx.Client]:
    """A client of an engine that knows the functions."""

    async def declare() -> None:
        await asyncio.gather(hello("x"), move(Point(1)), double(b""), search("x"), whole({}))
        await asyncio.gather(echo("x", [], Point(1)), letters(1), ticks("", 0), return_exceptions=True)
        await asyncio.gather(broken("value"), order("", Order(item="ab")), upload("", ""), return_exceptions=True)  # type: ignore[arg-type]

    asyncio.run(declare())
    token = (engine.home / "token").read_text().strip()
    headers = {"authorization": f"Bearer {token}"}
    base = engine.facts["gateway_url"]
    with httpx.Client(base_url=f"{base}/lb", headers=headers, timeout=PATIENCE_S) as one:
        yield one


def test_a_path_a_query_and_a_body_become_arguments_and_values_become_json(client: httpx.Client) -> None:
    answer = client.get("/plain/hello/Ada", params={"times": 2})
    assert (answer.status_code, answer.json()) == (200, {"text": "hello Ada hello Ada "})
    assert client.post("/plain/move", json={"x": 1, "y": 2}).json() == {"x": 2, "y": 2.0}
    assert client.post("/plain/move?by=5", json={"at": {"x": 1}}).json() == {"x": 6, "y": 0}
    wrong = client.post("/plain/move", json={"x": "one"})
    assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["body", "x"])


def test_bytes_go_both_ways_however_many(client: httpx.Client) -> None:
    for size in (3, 3_000_000):
        answer = client.post("/plain/double", content=b"\xff" * size)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.content == b"\xff" * 2 * size


def test_an_error_has_a_status_and_shows_nothing_of_the_inside(client: httpx.Client) -> None:
    value = client.post("/plain/broken", json="value")
    assert (value.status_code, value.json()) == (400, {"detail": "there is no tea"})
    other = client.post("/plain/broken", json="other")
    assert (other.status_code, set(other.json())) == (500, {"detail", "id"})
    assert "secret" not in other.text


def test_models_requests_and_exceptions_are_those_of_the_functions_environment(client: httpx.Client) -> None:
    assert client.post("/web/order", json={"item": "tea"}).json() == {"item": "tea", "path": "/lb/web/order"}
    many = client.post("/web/order", json={"item": "tea", "count": 10})
    assert (many.status_code, many.json(), many.headers["x-most"]) == (409, {"detail": "so many"}, "9")
    short = client.post("/web/order", json={"item": "t"})
    assert (short.status_code, short.json()["detail"][0]["loc"]) == (422, ["body", "item"])


def test_files_are_uploaded_as_forms(client: httpx.Client) -> None:
    answer = client.post("/web/upload", files={"file": ("a.bin", b"x" * 200_000)}, data={"title": "A"})
    assert answer.json() == ["a.bin", 200_000, "A"]


def test_a_streaming_response_streams(client: httpx.Client) -> None:
    with client.stream("POST", "/web/letters", json=5) as answer:
        assert "".join(answer.iter_text()) == "abcab"


def test_events_come_as_they_are_yielded_and_end_when_the_client_goes(client: httpx.Client, tmp_path: Path) -> None:
    with client.stream("POST", "/plain/ticks", json={"marks": str(tmp_path), "n": 3}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(6)] == ["data: first", "", 'data: {"i":1}', "", 'data: {"i":2}', ""]
    until((tmp_path / "closed").exists)


def test_the_documentation_says_what_a_function_takes(client: httpx.Client) -> None:
    paths = client.get("/plain/openapi.json").json()["paths"]
    said = paths["/hello/{name}"]["get"]
    assert said["summary"] == "Greets."
    assert [(one["name"], one["in"]) for one in said["parameters"]] == [("name", "path"), ("times", "query")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NEAR = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON | st.text(),
        "numbers": JSON | st.lists(st.integers()),
        "at": JSON | st.fixed_dictionaries({"x": st.integers()}),
        "ratio": JSON | st.floats(),
        "flag": JSON,
        "note": JSON,
    },
)
FINE = {200, 400, 404, 405, 413, 415, 422}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(function=st.sampled_from(["echo", "move", "whole", "hello/a"]), body=NEAR | JSON | st.binary(max_size=50))
def test_no_body_is_an_error_of_ours(client: httpx.Client, function: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(f"/plain/{function}", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in FINE, answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["q", "at", "tags", "limit"]) | st.text(max_size=3), st.text() | st.lists(st.text()), max_size=4
    )
)
def test_no_query_is_an_error_of_ours(client: httpx.Client, query: dict[str, Any]) -> None:
    assert client.get("/plain/search", params=query).status_code in FINE
