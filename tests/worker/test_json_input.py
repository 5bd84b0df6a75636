"""How the input of a job that came over HTTP becomes the arguments of its function."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from runpod_flash.worker import json_input
from runpod_flash.worker.json_input import InvalidInput

_DIGESTS = map(str, itertools.count())


@dataclass
class Point:
    x: int
    y: int = 0


def bound(function: Callable[..., Any], value: Any) -> Any:
    args, kwargs = json_input.arguments(next(_DIGESTS), function, json.dumps(value).encode())
    return function(*args, **kwargs)


def pair(left: int, right: str = "r") -> Any:
    return left, right


def whole(input: dict[str, Any]) -> Any:
    return input


def anything(job):  # type: ignore[no-untyped-def]
    return job


def items(numbers: list[int]) -> Any:
    return numbers


def single(number: int) -> Any:
    return number


def point(at: Point, scale: float = 1.0) -> Any:
    return at, scale


def rest(first: int, **more: Any) -> Any:
    return first, more


def positional(first: int, /, second: int = 2) -> Any:
    return first, second


def nothing() -> Any:
    return "nothing"


@pytest.mark.parametrize(
    ("function", "value", "gives"),
    [
        (pair, {"left": 1}, (1, "r")),
        (pair, {"left": "1", "right": "x"}, (1, "x")),
        (whole, {"a": 1}, {"a": 1}),
        (whole, {"input": {"a": 1}}, {"a": 1}),
        (whole, {}, {}),
        (anything, {"prompt": "x"}, {"prompt": "x"}),
        (anything, [1, 2], [1, 2]),
        (anything, None, None),
        (items, [1, 2], [1, 2]),
        (items, {"numbers": [1]}, [1]),
        (single, 5, 5),
        (single, {"number": 5}, 5),
        (point, {"at": {"x": 1}, "scale": 2}, (Point(1), 2.0)),
        (point, {"x": 3, "y": 4}, (Point(3, 4), 1.0)),
        (rest, {"first": 1, "second": 2}, (1, {"second": 2})),
        (positional, {"first": 1, "second": 3}, (1, 3)),
        (nothing, {}, "nothing"),
        (nothing, {"__empty": True}, "nothing"),
        (pair, {"left": 1, "unknown": 2}, (1, "r")),
    ],
)
def test_an_input_binds_as_a_body_does(function: Callable[..., Any], value: Any, gives: Any) -> None:
    assert bound(function, value) == gives


@pytest.mark.parametrize(
    ("function", "value", "words"),
    [
        (pair, {}, "input.left: Field required"),
        (pair, {"left": "x", "right": 1}, "input.left: Input should be a valid integer"),
        (pair, {"left": "x", "right": 1}, "input.right: Input should be a valid string"),
        (pair, [1], "input: Input should be a valid dictionary"),
        (point, {"at": {"y": 1}}, "input.at.x: Field required"),
        (items, {"numbers": [1, "b"]}, "input.numbers.1: Input should be a valid integer"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(function: Callable[..., Any], value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        bound(function, value)
    assert words in str(caught.value)
