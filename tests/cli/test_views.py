from __future__ import annotations

import time

import pytest

from runpod_flash.cli import views


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.000_4, "400 µs"),
        (0.0081, "8.1 ms"),
        (0.9996, "1 s"),
        (3.24, "3.24 s"),
        (59.96, "1m"),
        (125, "2m 5s"),
        (12_000, "3h 20m"),
        (187_200, "2d 4h"),
    ],
)
def test_durations_have_about_three_digits(seconds: float, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_can_print", lambda _: True)
    assert views.duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"), [(None, ""), (0, "0 B"), (812, "812 B"), (4096, "4.1 kB"), (2_300_000_000, "2.3 GB")]
)
def test_sizes_have_about_three_digits(number: float | None, words: str) -> None:
    assert views.size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "now"), (5, "5s ago"), (59.4, "59s ago"), (200, "3m ago"), (90_000, "1d ago")]
)
def test_ages_are_told_in_their_largest_unit(seconds: float, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000.0)
    assert views.ago(round((1_000_000 - seconds) * 1000)) == words


def test_a_bar_lies_where_its_part_lies_and_never_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_can_print", lambda _: False)
    assert views.bar(0, 1, 2) == "#" * 16
    assert views.bar(1, 1, 2) == " " * 16 + "#" * 16
    assert views.bar(1_000_000, 1, 1_000_001) == " " * 31 + "|"
    assert views.bar(0, 0, 5) == ""


def test_a_cell_is_one_line_that_no_terminal_obeys() -> None:
    assert views.clean("a\nb\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"


def test_a_job_that_started_and_ended_in_one_millisecond_took_less_than_that_and_not_nothing() -> None:
    assert views.took({"started_at_ms": 5, "ended_at_ms": 5}) == "<1 ms"
    assert views.took({"started_at_ms": 5, "ended_at_ms": 7}) == "2 ms"
    assert views.took({"started_at_ms": None}) == ""
