"""The flags of a function, read without anything behind them."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from runpod_flash.cli.call import OWN
from runpod_flash.cli.flags import Call, read_call


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclass
class Size:
    width: int
    unit: str = "px"


class Options(BaseModel):
    rate: float = 0.1
    learning_name: str = ""


def draw(
    a: int,
    /,
    mode: Literal["fast", "slow"],
    colour: Colour = Colour.RED,
    max_tokens: int = 3,
    *,
    size: Size | None = None,
    options: Options | None = None,
    loud: bool = True,
    json: str = "none",
    **more: int,
) -> None:
    """Draws."""


def read(*words: str, function: Any = draw) -> Call:
    return read_call(function, "flash call app.py::draw", words, OWN)


def test_values_come_by_position_by_name_and_field_by_field() -> None:
    asked = read("-1", "slow", "--max_tokens", "5", "--size.width", "4", "--options.learning-name", "x", "--no-loud")
    assert asked.args == (-1, "slow")
    assert asked.kwargs == {
        "max_tokens": 5,
        "size": Size(4),
        "options": Options(learning_name="x"),
        "loud": False,
    }
    assert read("1", "fast", "--size", '{"width": 1, "unit": "m"}', "--size.width", "2").kwargs["size"] == Size(2, "m")
    assert read("1", "fast", "BLUE", "--arg", "depth=3").kwargs == {"depth": 3}


def test_a_flag_of_the_function_goes_before_one_of_ours() -> None:
    asked = read("1", "fast", "--json", "mine", "--timeout", "3")
    assert asked.kwargs["json"] == "mine"
    assert asked.options["timeout"] == 3
    assert "as_json" not in asked.options


def test_what_a_function_does_not_say_is_left_to_it() -> None:
    assert read("1", "fast") == ((1, "fast"), {}, read("1", "fast").options)


def test_annotations_that_cannot_be_evaluated_cost_no_call() -> None:
    def odd(a: NoSuchType, b: Any = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Has annotations that only a type checker sees."""

    assert read("1", "x", function=odd).args == (1, "x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["1", "fast", "--size.width", "x"], "Invalid value for --size"),
        (["1", "fast", "--size.unit", "m"], "missing required field `width`"),
        (["1", "fast", "--size", "[]", "--size.width", "1"], "is no JSON object"),
        (["1", "fast", "--max-tokens"], "requires an argument"),
        (["1", "fast", "--loud=yes"], "does not take a value"),
        (["1", "fast", "--arg", "depth=deep"], "Invalid value for --arg depth"),
        (["1"], "Missing --mode fast|slow."),
    ],
)
def test_what_is_wrong_names_the_flag(words: list[str], told: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        read(*words)
    assert told in refused.value.format_message()


FLAGS = ["--a", "--mode", "--colour", "--max-tokens", "--size", "--size.width", "--options", "--loud", "--arg", "--"]
WORD = st.one_of(
    st.sampled_from([*FLAGS, "fast", "1", "-1", "@", "@@", "@/dev/null", "@/", "{}", "[", '{"width": 1}', "k=1", "="]),
    st.text(alphabet=st.characters(exclude_characters="\0"), max_size=8).filter(lambda word: word not in ("-", "@-")),
)


@given(st.lists(WORD, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_is_typed_is_a_call_or_a_wrong_usage(words: list[str]) -> None:
    with contextlib.suppress(click.UsageError, click.exceptions.Exit):  # --help leaves
        assert isinstance(read(*words), Call)


def test_a_path_is_not_read_as_a_file() -> None:
    def opens(path: Path) -> None: ...

    assert read("data/file.txt", function=opens).args == (Path("data/file.txt"),)
