"""Exceptions on their way back to the caller."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from runpod_flash.errors import RemoteError
from runpod_flash.payload import codec, failures


class Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Grown(OSError):
    pass


def raised(function: Callable[[], Any]) -> BaseException:
    try:
        function()
    except Exception as error:  # noqa: BLE001 — that is what is tested
        return error
    raise AssertionError("nothing was raised")


def travel(error: BaseException, **options: Any) -> BaseException:
    failure = failures.record(error)
    return failures.restore(SimpleNamespace(**failure.error), failure.parts, **options)


def refuse() -> None:
    raise Refused(7, "closed")


def test_an_exception_arrives_as_itself_without_its_constructor_being_called() -> None:
    found = travel(raised(refuse))
    assert type(found) is Refused
    assert (str(found), found.code, found.args) == ("7: closed", 7, ("7: closed",))


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        FileNotFoundError(2, "No such file", "x.txt"),
        Grown(5, "I/O", "disk"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3),
        SystemExit(4),
        ImportError("no", name="x", path="y"),
        SyntaxError("bad", ("f.py", 1, 2, "x =", 1, 3)),
    ],
)
def test_what_c_keeps_in_an_exception_comes_along(error: BaseException) -> None:
    found = codec.decode(codec.encode(error).parts)
    assert type(found) is type(error)
    assert str(found) == str(error)
    for name in ("errno", "filename", "start", "reason", "value", "code", "name", "path", "lineno"):
        assert getattr(found, name, None) == getattr(error, name, None)


def test_causes_attributes_and_notes_come_along() -> None:
    error = ValueError("outer")
    error.__cause__ = Refused(1, "inner")
    error.details = {"a": 1}  # type: ignore[attr-defined]
    error.__notes__ = ["a note"]  # type: ignore[attr-defined]
    found = codec.decode(codec.encode(error).parts)
    assert type(found.__cause__) is Refused
    assert found.details == {"a": 1}
    assert found.__notes__ == ["a note"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are newer")
def test_groups_of_exceptions_come_along() -> None:
    group = ExceptionGroup("several", [Refused(1, "a"), ValueError("b")])  # type: ignore[name-defined]  # noqa: F821
    found = travel(group)
    assert [type(one) for one in found.exceptions] == [Refused, ValueError]  # type: ignore[attr-defined]


def test_an_uncaught_exception_shows_the_workers_traceback_and_the_border() -> None:
    found = travel(raised(refuse), worker="w7")
    text = "".join(traceback.format_exception(found))
    assert "─ in worker w7 ─" in text
    assert 'raise Refused(7, "closed")' in text
    assert text.index("─ in worker w7 ─") < text.index("─ here ─") < text.rindex("Refused: 7: closed")


def test_the_original_causes_stay_below_the_workers_traceback() -> None:
    error = raised(refuse)
    error.__cause__ = KeyError("first")
    found = travel(error)
    assert isinstance(found.__cause__, KeyError)
    assert isinstance(found.__cause__.__cause__, failures.RemoteTraceback)


def test_without_attaching_the_exception_is_plain() -> None:
    assert travel(raised(refuse), attach=False).__cause__ is None


def test_what_cannot_be_rebuilt_is_a_remote_error_with_the_original_name() -> None:
    failure = failures.record(raised(refuse))
    found = failures.restore(SimpleNamespace(**failure.error), [])
    assert isinstance(found, RemoteError)
    assert found.what == "Refused: 7: closed"
    assert "raise Refused" in str(found)


def test_attributes_that_cannot_travel_are_left_behind() -> None:
    error = Refused(7, "closed")
    error.stream, error.kept = sys._getframe(), 1  # type: ignore[attr-defined]
    found = travel(error)
    assert (type(found), found.kept, hasattr(found, "stream")) == (Refused, 1, False)  # type: ignore[attr-defined]


def test_arguments_that_cannot_travel_leave_the_plain_facts() -> None:
    failure = failures.record(ValueError(sys._getframe()))
    assert failure.parts == []
    assert failure.error["type"] == "ValueError"


def test_an_exception_without_text_is_no_accident() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert failures.record(Mute()).error["message"] == "<its text cannot be made: RuntimeError>"


def test_our_frames_are_left_out_of_the_traceback() -> None:
    def through_us() -> None:
        codec.encode(1, named=None)
        codec.decode([b"nonsense"])

    text = failures.record(raised(through_us)).error["traceback"]
    assert "through_us" in text
    assert "payload/codec.py" not in text


def test_enormous_texts_are_cut() -> None:
    failure = failures.record(ValueError("x" * 10_000_000))
    assert len(failure.error["message"]) < 70_000
    assert len(failure.error["traceback"]) < 300_000


def test_a_package_that_is_missing_is_told_with_the_mend() -> None:
    with pytest.raises(ModuleNotFoundError) as raised:
        import_module("no_such_package.inside")
    message = failures.record(raised.value).error["message"]
    assert message.startswith("No module named 'no_such_package'")
    assert 'dependencies=["no_such_package"]' in message


def test_half_a_character_in_a_text_does_not_keep_the_rest_from_travelling() -> None:
    found = failures.record(RuntimeError("odd \ud800")).error
    assert found["message"] == "odd \\ud800"
    assert found["traceback"].encode()
