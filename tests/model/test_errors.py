"""The error tree: what every message has, and how errors of workers come back."""

from __future__ import annotations

import ast
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from runpod_flash import errors
from runpod_flash.errors import (
    ConfigError,
    FlashError,
    JobTimeout,
    QueueFull,
    RemoteError,
    did_you_mean,
    error_from_code,
)

TREE = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("kind", TREE)
def test_no_error_is_without_a_message(kind: type[FlashError]) -> None:
    assert issubclass(kind, FlashError)
    assert str(kind())
    assert str(kind("  "))


@pytest.mark.parametrize("kind", TREE)
def test_a_message_has_its_pieces_and_keeps_them_when_pickled(kind: type[FlashError]) -> None:
    error = kind("it broke", where="here.py:3", why="a reason", fix="do this\nthen that")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert str(error).splitlines() == [
        "it broke",
        "  where: here.py:3",
        "  why:   a reason",
        "  fix:   do this",
        "         then that",
    ]


def test_codes_are_unique_and_lead_back_to_their_class() -> None:
    assert len({kind.code for kind in TREE}) == len(TREE)
    for kind in TREE:
        assert type(error_from_code(kind.code, "it broke")) is kind
    full = error_from_code("queue_full", "full", retry_after_ms=20)
    assert isinstance(full, QueueFull)
    assert full.retry_after_ms == 20
    assert "unheard_of" in str(error_from_code("unheard_of", "no"))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for kind in TREE:
        assert f" {kind.__name__} " in (errors.__doc__ or "").replace("\n", " \n")


def test_typos_other_cases_and_snake_case_are_recognised() -> None:
    choices = ["workersMin", "workersMax", "idleTimeout"]
    assert did_you_mean("workers_max", choices) == " Did you mean 'workersMax'?"
    assert did_you_mean("IDLETIMEOUT", choices) == " Did you mean 'idleTimeout'?"
    assert did_you_mean("wrokersMin", choices) == " Did you mean 'workersMin'?"
    assert did_you_mean("colour", choices) == ""


def raised_without_reason(file: Path) -> list[str]:
    """Where errors of ours are made with nothing but what happened."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    ours = {kind.__name__ for kind in TREE}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id in ours for base in node.bases
        ):
            # A class with a constructor of its own says there what it always says.
            ours |= set() if any(isinstance(one, ast.FunctionDef) for one in node.body) else {node.name}
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ours]
    vague = [node for node in made if node.args and not {"why", "fix", None} & {word.arg for word in node.keywords}]
    return [f"{file.name}:{node.lineno}" for node in vague]


def test_no_error_is_raised_without_a_reason_or_a_way_out() -> None:
    package = Path(errors.__file__).parent
    assert [place for file in package.rglob("*.py") for place in raised_without_reason(file)] == []


# ── errors of workers ─────────────────────────────────────────────────────────────────────────────


class OwnError(Exception):
    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code


class WantsArguments(ValueError):
    def __new__(cls, first: int, second: int) -> WantsArguments:
        return super().__new__(cls)

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)


@dataclass(frozen=True)
class FrozenError(ValueError):
    code: int = 7


class SlottedError(Exception):
    __slots__ = ("detail",)

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def remote(original: BaseException) -> RemoteError:
    return RemoteError.of("it broke", original=original, traceback="Traceback: there")


@pytest.mark.parametrize(
    "original", [ValueError("x"), KeyError("x"), OSError(2, "no", "file"), OwnError("x", code=3),
                 UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), SlottedError("x")]
)  # fmt: skip
def test_a_remote_error_is_also_the_original_type_with_its_attributes(original: Exception) -> None:
    error = remote(original)
    assert isinstance(error, RemoteError)
    assert isinstance(error, type(original))
    assert error.__cause__ is original
    assert error.args == original.args
    assert str(error) == "it broke\n\nTraceback: there"
    for name in ("code", "errno", "filename", "reason", "detail"):
        assert getattr(error, name, None) == getattr(original, name, getattr(RemoteError, name, None))


@pytest.mark.parametrize("original", [ValueError("x"), OSError(2, "no", "file"), SlottedError("x")])
def test_a_remote_error_can_be_pickled_with_its_double_nature(original: Exception) -> None:
    again = pickle.loads(pickle.dumps(remote(original)))
    assert isinstance(again, type(original))
    assert str(again) == str(remote(original))
    assert getattr(again, "errno", None) == getattr(original, "errno", None)
    assert type(again.__cause__) is type(original)


@pytest.mark.parametrize("original", [WantsArguments(1, 2), FrozenError(3)])
def test_what_cannot_be_imitated_is_imitated_as_far_as_it_goes(original: Exception) -> None:
    error = remote(original)
    assert isinstance(error, ValueError)
    assert error.original is original


def test_a_validation_error_of_pydantic_comes_back_as_a_value_error() -> None:
    class Model(BaseModel):
        x: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"x": "no"})
    assert isinstance(remote(caught.value), ValueError)


@pytest.mark.parametrize("original", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()])
def test_what_would_end_a_program_or_a_loop_is_never_imitated(original: BaseException) -> None:
    assert type(remote(original)) is RemoteError


def test_an_error_that_crossed_two_borders_keeps_its_type() -> None:
    assert isinstance(remote(remote(ValueError("x"))), ValueError)
    assert isinstance(remote(JobTimeout("x")), TimeoutError)
    assert isinstance(remote(ConfigError("x")), ConfigError)
