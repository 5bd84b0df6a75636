"""How a load-balanced function is described, and what is refused where it is decorated."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import pydantic
import pytest
from fastapi import Depends, Header, Query, Request, UploadFile

from runpod_flash import ConfigError, CpuLiveLoadBalancer, remote
from runpod_flash.client import hints, operation

api = CpuLiveLoadBalancer(name="api")


class Size(enum.Enum):
    SMALL = "s"


@dataclasses.dataclass
class Cup:
    size: Size
    sugar: int = 0


class Part(pydantic.BaseModel):
    name: str
    parts: list[Part] = []


def described(function: Any, method: str = "POST", path: str = "/it") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(operation.describe(function, method, path))
    return found


def body_of(function: Any) -> Any:
    return described(function)["requestBody"]["content"]["application/json"]["schema"]


def test_parameters_stand_where_requests_have_them() -> None:
    def find(
        name: str, x_token: Annotated[str, Header()], limit: Annotated[int, Query(gt=0)] = 3, kind: Literal["a"] = "a"
    ) -> list[str]:
        """Finds things.

        All of them.
        """
        return [name]

    found = described(find, "GET", "/things/{name}")
    assert (found["summary"], found["description"]) == ("Finds things.", "All of them.")
    assert found["parameters"] == [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "x-token", "in": "header", "required": True, "schema": {"type": "string"}},
        {
            "name": "limit",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "exclusiveMinimum": 0, "default": 3},
        },
        {"name": "kind", "in": "query", "required": False, "schema": {"enum": ["a"], "default": "a"}},
    ]
    returned = found["responses"]["200"]["content"]["application/json"]["schema"]
    assert returned == {"type": "array", "items": {"type": "string"}}


def test_the_body_is_described_as_it_is_bound() -> None:
    def scalars(a: int, b: str | None = None) -> None: ...
    def whole(cup: Cup, copies: int = 1) -> None: ...
    def nested(part: Part) -> None: ...

    optional = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert body_of(scalars) == {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": optional},
        "required": ["a"],
    }
    assert body_of(whole) == {
        "type": "object",
        "title": "Cup",
        "properties": {"size": {"enum": ["s"], "title": "Size"}, "sugar": {"type": "integer"}},
        "required": ["size"],
    }
    assert [one["in"] for one in described(whole)["parameters"]] == ["query"]
    text = json.dumps(body_of(nested))
    assert "$ref" not in text
    assert "$defs" not in text


def test_files_streams_and_requests_are_said_as_what_they_are() -> None:
    def upload(file: UploadFile, title: str) -> None: ...
    def raw(data: bytes) -> bytes:
        return data

    def look(request: Request) -> None: ...
    async def stream(n: int) -> AsyncIterator[str]:
        yield "x"

    assert list(described(upload)["requestBody"]["content"]) == ["multipart/form-data"]
    assert list(described(raw)["requestBody"]["content"]) == ["application/octet-stream"]
    assert "requestBody" not in described(look)
    assert "text/event-stream" in described(stream)["responses"]["200"]["content"]


def test_what_cannot_be_described_is_left_out() -> None:
    class Odd(pydantic.BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        value: inspect.Signature

    def odd(x: Any) -> None: ...

    odd.__annotations__["x"] = Odd
    assert operation.describe(odd, "POST", "/odd") == ""


def test_text_among_annotations_travels_as_the_type_it_names() -> None:
    def function(cup: Cup, other: Unknown, data: bytes | None = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    twin = hints.spelled_out(function)  # type: ignore[arg-type]
    assert twin.__annotations__["cup"] is Cup
    assert twin.__annotations__["other"] == "Unknown"
    assert function.__annotations__["cup"] == "Cup"
    assert inspect.signature(twin).parameters.keys() == inspect.signature(function).parameters.keys()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/things/{nam}", r"no parameter 'nam'. Did you mean 'name'"),
        ("/things/{name", "a parameter is written {name}"),
        ("/{name}/{name}", "each name once"),
    ],
)
def test_a_path_that_does_not_fit_its_function_is_refused_where_it_is_written(path: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):

        @remote(api, path=path)
        async def function(name: str) -> None: ...


def test_a_dependency_that_only_an_application_could_fill_in_is_refused() -> None:
    with pytest.raises(ConfigError, match="default is Depends"):

        @remote(api)
        async def function(user: Any = Depends(dict)) -> None: ...  # noqa: B008 - as FastAPI is written
