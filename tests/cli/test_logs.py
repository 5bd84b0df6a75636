from __future__ import annotations

import json
from typing import Any

from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import JOB, StandIn, Then, rows


def line(text: str, attempt: int = 1, fd: int = 1) -> dict[str, Any]:
    return {"at_ms": 1_700_000_000_250, "attempt": attempt, "fd": fd, "worker": f"w-{attempt}", "line": text}


def log(first: int, *lines: str, attempt: int = 1) -> messages.Log:
    return messages.Log(
        job=JOB,
        attempt=attempt,
        worker=f"w-{attempt}",
        fd=1,
        at_ms=1_700_000_000_250,
        n=first,
        lines=list(lines),
    )


OUTCOME = messages.Outcome(job=JOB, status="COMPLETED", attempts=1, created_at_ms=1, ended_at_ms=2)


def test_lines_of_both_streams_are_on_stdout_and_nothing_else_is(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows(line("one"), line("warning", fd=2), line("  again", attempt=2))
    code, out, err = flash("logs", "0001")
    assert (code, out) == (0, "one\nwarning\n  again\n")
    assert err == "── attempt 2, worker w-2 ──\n"
    assert engine.queries("logs")[0].filter == {"job": JOB}


def test_one_attempt_with_times(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows(line("one"), line("two", attempt=2))
    assert flash("logs", "0001", "--attempt", "1", "-t").out == "22:13:20.250 one\n"


def test_json_is_a_line_for_a_line(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows(line("one"), line("two"))
    out = flash("logs", "0001", "--json").out
    assert [json.loads(text) for text in out.splitlines()] == [line("one"), line("two")]


def test_silence_is_told_on_stderr(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows()
    assert flash("logs", "0001") == (0, "", f"job {JOB} (COMPLETED) has printed nothing\n")


def test_following_shows_the_past_and_then_what_comes_each_line_once(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows(line("0"), line("1"))
    engine.answers[messages.Attach] = lambda _: [log(1, "1", "2"), log(3, "3"), OUTCOME]
    code, out, err = flash("logs", "0001", "-f")
    assert (code, out) == (0, "0\n1\n2\n3\n")
    assert err == f"job {JOB}: COMPLETED, 1 attempt\n"


def test_following_goes_on_when_the_engine_is_replaced(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows()
    ends: list[messages.Head | Then] = [OUTCOME, Then.HANG_UP]
    engine.answers[messages.Attach] = lambda _: [log(0, "0"), log(1, "1"), ends.pop()]
    code, out, err = flash("logs", "0001", "-f")
    assert (code, out) == (0, "0\n1\n")
    assert err.splitlines()[0] == "the engine went away; looking for the next one"


def test_lines_that_came_while_nobody_listened_are_shown_at_the_end(flash: Flash, engine: StandIn) -> None:
    listings = [[line("0"), line("1")], [line("0")]]
    engine.answers["logs"] = lambda _: [messages.Rows(rows=listings.pop())]
    engine.answers[messages.Attach] = lambda _: [OUTCOME]
    assert flash("logs", "0001", "-f").out == "0\n1\n"


def test_lines_that_nobody_passed_on_are_shown_before_those_that_follow_them(flash: Flash, engine: StandIn) -> None:
    listings = [[line(str(n)) for n in range(4)]] * 2 + [[line("0")]]
    engine.answers["logs"] = lambda _: [messages.Rows(rows=listings.pop())]
    engine.answers[messages.Attach] = lambda _: [log(3, "3"), log(4, "4"), OUTCOME]
    assert flash("logs", "0001", "-f").out == "0\n1\n2\n3\n4\n"


def test_a_waiting_job_says_why_nothing_comes(flash: Flash, engine: StandIn) -> None:
    engine.answers["logs"] = rows()
    waits = messages.State(job=JOB, status="IN_QUEUE", why="its environment is being built")
    engine.answers[messages.Attach] = lambda _: [waits, OUTCOME]
    assert flash("logs", "0001", "-f").err.startswith("IN_QUEUE: its environment is being built\n")


def test_an_endpoint_that_prints_nothing_yet_is_waited_for_in_words(flash: Flash, engine: StandIn) -> None:
    pages = [messages.Rows(rows=[{**line("hi"), "job": JOB}]), messages.Rows(rows=[], next="1")]
    engine.answers["logs"] = lambda _: [pages.pop()]
    code, out, err = flash("logs", "--endpoint", "trainer", "-f")
    assert (code, out) == (0, f"{JOB}  hi\n")
    assert err == "waiting for what jobs of trainer print from now on (--since 1h: also before); Ctrl-C stops\n"
