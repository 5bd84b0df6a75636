"""The JSON view of a result, and the words for a result that has none."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
from typing import Any

import numpy
import pydantic
import pytest

from runpod_flash.payload.json_view import NotJson, view


@dataclasses.dataclass
class Point:
    x: Any


class Model(pydantic.BaseModel):
    at: datetime.date
    inner: list[int] = []


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, None, True, "ü"]}, '{"a":[1,2.5,null,true,"ü"]}'),
        ((1, (2,)), "[1,[2]]"),
        ({"n": numpy.int64(3), "f": numpy.float32(0.5), "b": numpy.bool_(True)}, '{"n":3,"f":0.5,"b":true}'),
        (numpy.float64(1.5), "1.5"),
        ([Point(Point(1))], '[{"x":{"x":1}}]'),
        (Model(at=datetime.date(2026, 1, 2)), '{"at":"2026-01-02","inner":[]}'),
        ([Colour.RED, Number.ONE], '["red",1]'),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_what_counts_as_json(value: Any, text: str) -> None:
    assert view(value).decode() == text
    json.loads(text)


loop: list[Any] = []
loop.append(loop)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"timestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)}, "$.timestamp is a datetime"),
        ([1, {"a b": {2}}], "$[1]['a b'] is a set"),
        ({"x": Point([b""])}, "$.x.x[0] is a bytes"),
        (numpy.zeros(3), "$ is a numpy.ndarray"),
        ({(1, 2): 3}, "$ has the key (1, 2), a tuple"),
        ({"loss": float("nan")}, "$.loss is nan, which JSON does not have"),
        (loop, "$[0] contains itself"),
        ({"text": "\udce4"}, "$.text is text with lone surrogates, which cannot be sent"),
    ],
)
def test_what_is_not_json_is_named_by_its_path(value: Any, words: str) -> None:
    with pytest.raises(NotJson) as caught:
        view(value)
    assert str(caught.value) == words


def test_nesting_without_end_is_named() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotJson, match="nested too deeply"):
        view(deep)
