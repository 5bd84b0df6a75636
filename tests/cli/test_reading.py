"""What somebody typed, read as an annotation says."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NewType, Optional, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from runpod_flash.cli.reading import Unreadable, kind_of


class Colour(enum.Enum):
    RED = "r"
    DARK_BLUE = 2


@dataclass
class Size:
    width: int
    where: Path = Path()


class Row(TypedDict):
    name: str


class Model(BaseModel):
    rate: float = Field(gt=0)
    sizes: list[int] = []


class Celsius(float):
    def __new__(cls, value: float) -> Celsius:
        if value < -273:
            raise ValueError("colder than cold")
        return super().__new__(cls, value)


UserId = NewType("UserId", int)
READ: list[tuple[Any, str, Any]] = [
    (str, "x", "x"),
    (int, "-3", -3),
    (float, "1e3", 1000.0),
    (complex, "1+2j", 1 + 2j),
    (bool, "no", False),
    (bytes, "é", "é".encode()),
    (Path, "a/b", Path("a/b")),
    (decimal.Decimal, "1.50", decimal.Decimal("1.50")),
    (uuid.UUID, "12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
    (datetime.datetime, "2026-03-01T14:05:09Z", datetime.datetime(2026, 3, 1, 14, 5, 9, tzinfo=datetime.timezone.utc)),
    (datetime.date, "2026-03-01", datetime.date(2026, 3, 1)),
    (datetime.timedelta, "90", datetime.timedelta(seconds=90)),
    (datetime.timedelta, "PT1M30S", datetime.timedelta(seconds=90)),
    (Literal["fast", 2], "2", 2),
    (Colour, "RED", Colour.RED),
    (Colour, "dark_blue", Colour.DARK_BLUE),
    (Colour, "2", Colour.DARK_BLUE),
    (int | None, "null", None),
    (Optional[int], "4", 4),  # noqa: UP045 - the older way to write it
    (str | None, "null", "null"),
    (int | str, "4", 4),
    (int | str, "four", "four"),
    (str | float | None, "1.5", 1.5),
    (UserId, "7", 7),
    (Celsius, "20", Celsius(20)),
    (Any, '{"a": [1]}', {"a": [1]}),
    (Any, "plain text", "plain text"),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (dict[int, str], '{"1": "x"}', {1: "x"}),
    (Mapping[str, Any], "{}", {}),
    (Row, '{"name": "n"}', {"name": "n"}),
    (Size, '{"width": 4, "where": "x"}', Size(4, Path("x"))),
    (Size | None, '{"width": 4}', Size(4)),
    (Model, '{"rate": 0.5}', Model(rate=0.5)),
    (list[int], "[1, 2]", [1, 2]),
    (list[int], "1", [1]),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (list[Model], '[{"rate": 1}]', [Model(rate=1)]),
]


@pytest.mark.parametrize(("annotation", "word", "value"), READ, ids=[f"{a!s}:{w}" for a, w, _ in READ])
def test_a_word_becomes_a_value_of_its_annotation(annotation: Any, word: str, value: Any) -> None:
    found = kind_of(annotation).read(word)
    assert found == value
    assert type(found) is type(value)


REFUSED: list[tuple[Any, str, str]] = [
    (int, "3.5", "'3.5' is no whole number"),
    (int, "9" * 5000, "is no whole number"),
    (float, "", "'' is no number"),
    (bool, "maybe", "'maybe' is no true or false"),
    (Literal["fast", "slow"], "fats", "'fats' is none of fast, slow. Did you mean 'fast'?"),
    (Colour, "green", "none of RED, DARK_BLUE"),
    (int | float, "x", "'x' is no whole number; and 'x' is no number"),
    (dict[str, int], "{a: 1}", "in a shell, JSON stands in single quotes"),
    (dict[str, int], '{"a": "b"}', "Expected `int`, got `str` - at `$[...]`"),
    (dict[str, Any], "[" * 100_000, "nested too deeply"),
    (Size, '{"widht": 4}', "Size has no field 'widht'. Did you mean 'width'?"),
    (Size, "{}", "missing required field `width`"),
    (Model, '{"rate": 0}', "rate: Input should be greater than 0"),
    (Model, "7", "Input should be a valid dictionary"),
    (list[int], "[1, x]", "is no JSON"),
    (Celsius, "-300", "colder than cold"),
    (memoryview, "x", "a builtins.memoryview cannot be written on a command line"),
    (str, "\udcff", "is no UTF-8 text"),
    (datetime.date, "2026-13-01", "is no date, such as 2026-03-01"),
]


@pytest.mark.parametrize(("annotation", "word", "told"), REFUSED, ids=[f"{a!s}:{w[:9]}" for a, w, _ in REFUSED])
def test_a_word_that_is_no_value_is_refused_in_a_sentence(annotation: Any, word: str, told: str) -> None:
    with pytest.raises(Unreadable) as refused:
        kind_of(annotation).read(word)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 400


def test_several_words_are_read_each_by_itself() -> None:
    assert kind_of(list[int]).many(["1", "2"]) == [1, 2]  # type: ignore[misc]
    assert kind_of(set[Colour]).many(["RED", "r"]) == {Colour.RED}  # type: ignore[misc]
    assert kind_of(Sequence[Path]).many(["a", "b"]) == [Path("a"), Path("b")]  # type: ignore[misc]
    assert kind_of(tuple[int, str]).many(["1", "b"]) == (1, "b")  # type: ignore[misc]
    with pytest.raises(Unreadable, match="takes 2 values, and 3 were given"):
        kind_of(tuple[int, str]).many(["1", "2", "3"])  # type: ignore[misc]


KINDS = [kind_of(annotation) for annotation in dict.fromkeys(annotation for annotation, _, _ in READ)]


@given(st.sampled_from(KINDS), st.one_of(st.text(), st.binary(), st.from_regex(r"[\[{\"0-9][^\x00]*")))
def test_whatever_is_typed_is_a_value_or_a_sentence(kind: Any, word: str | bytes) -> None:
    with contextlib.suppress(Unreadable):  # anything else fails the test
        kind.read(word)
