from __future__ import annotations

import json

import pytest

from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import JOB, OTHER, StandIn, job_page, job_row, refusal, rows


def test_jobs_are_columns_that_a_pipe_can_cut(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows(job_row(job=OTHER, status="FAILED", attempts=2, error="KeyError:\n1"), job_row())
    code, out, err = flash("jobs")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "JOB                                   STATUS     FUNCTION       ENDPOINT  TRIES"
        "  CREATED                   TOOK  ERROR",
        f"{OTHER}  FAILED     demo.py:train  trainer       2  2023-11-14T22:13:20.000Z   2 s  KeyError: 1",
        f"{JOB}  COMPLETED  demo.py:train  trainer       1  2023-11-14T22:13:20.000Z   2 s  -",
    ]


def test_jobs_on_a_terminal_are_coloured_short_and_fit(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows(job_row(error="x" * 300))
    seen = flash.on_terminal("jobs")
    assert "\x1b[32mCOMPLETED" in seen
    assert JOB[-8:] in seen
    assert JOB not in seen
    assert "ago" in seen
    assert max(map(len, flash.on_terminal("jobs", NO_COLOR="1").splitlines())) <= 120


def test_nobody_is_coloured_against_their_will(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows(job_row())
    assert "\x1b" not in flash.on_terminal("jobs", NO_COLOR="1")
    assert "\x1b" not in flash.on_terminal("job", "0001", NO_COLOR="1")
    assert "\x1b" not in flash("jobs").out


def test_what_a_job_says_of_itself_cannot_steer_the_terminal(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows(job_row(error="\x1b]0;owned\x07"))
    assert "\\x1b]0;owned\\x07" in flash("jobs").out


def test_filters_go_to_the_engine(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows()
    line = "--status failed --running --endpoint trainer --function train --app digits --before 0001"
    code, out, err = flash("jobs", *line.split(), "--since", "2023-11-14T22:13:20", "--until", "2023-11-14T23:13:20Z")
    assert (code, out, err) == (0, "", "no such jobs\n")
    (query,) = engine.queries("jobs")
    assert query.filter == {
        "status": ["FAILED", "IN_PROGRESS"], "endpoint": "trainer", "fn": "train", "app": "digits", "before": "0001",
        "since_ms": 1_700_000_000_000, "until_ms": 1_700_003_600_000,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("filter", "told"),
    [
        (("--status", "faild"), "there is no status 'faild'. Did you mean 'FAILED'?"),
        (("--since", "yesterday"), "'yesterday' is no time. Write it like 1h (ago)"),
        (("--limit", "99999999999"), "99999999999 is not in the range"),
    ],
)
def test_a_filter_that_cannot_be_is_told_with_what_can(flash: Flash, filter: tuple[str, str], told: str) -> None:
    code, out, err = flash("jobs", *filter)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(("option", "name"), [("--endpoint", "trianer"), ("--function", "trian"), ("--app", "digit")])
def test_a_name_that_nothing_has_is_answered_with_the_one_that_was_meant(
    flash: Flash, engine: StandIn, option: str, name: str
) -> None:
    engine.answers["jobs"] = rows()
    code, out, err = flash("jobs", option, name)
    assert (code, out) == (3, "")
    assert f"{name!r}. Did you mean" in err


def test_no_jobs_is_no_error_and_no_facts(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows()
    assert flash("jobs") == (0, "", "no jobs yet\n")
    assert flash("jobs", "--json") == (0, "[]\n", "")


def test_a_long_listing_comes_in_pages_and_says_that_there_is_more(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = lambda query: [messages.Rows(rows=[job_row()] * query.limit, next="on")]
    code, out, err = flash("jobs", "--limit", "1200", "--json")
    assert code == 0
    assert len(json.loads(out)) == 1200
    assert [(query.limit, query.cursor) for query in engine.queries("jobs")] == [(1000, ""), (201, "on")]
    assert f"--before {JOB}, or --limit 12000" in err


def test_json_is_the_rows_as_they_are(flash: Flash, engine: StandIn) -> None:
    row = job_row(error="Fehler: größer")
    engine.answers["jobs"] = rows(row)
    ended = flash("jobs", "--json")
    assert json.loads(ended.out) == [row]
    assert "größer" in ended.out


def test_one_job_is_a_page_with_all_that_is_known(flash: Flash, engine: StandIn) -> None:
    engine.answers["job"] = rows(
        job_page(
            status="FAILED", attempts=2, failures=1, losses=1, why="", out_size=0,
            attempts_list=[
                {
                    "n": 1, "epoch": 1, "worker": "w-1", "assigned_at_ms": 1_700_000_000_100,
                    "started_at_ms": 1_700_000_000_500, "ended_at_ms": 1_700_000_001_000, "end": "lost",
                    "error": "worker killed", "exit": {"signal": 9, "oom": False},
                },
                {
                    "n": 2, "epoch": 2, "worker": "w-2", "assigned_at_ms": 1_700_000_001_100,
                    "started_at_ms": 1_700_000_001_500, "ended_at_ms": 1_700_000_002_500, "end": "failed",
                    "error": "ValueError: bad", "exit": None,
                },
            ],
            events=[{"at_ms": 1_700_000_001_000, "kind": "lost", "data": {"worker": "w-1"}}],
            error_info={
                "type": "ValueError", "message": "bad", "kind": "user",
                "traceback": TRACEBACK,
            },
        )
    )  # fmt: skip
    code, out, err = flash("job", "0001")
    assert (code, err) == (0, "")
    assert out == PAGE


TRACEBACK = """\
Traceback (most recent call last):
  File "demo.py", line 3, in train
ValueError: bad
"""
PAGE = f"""\
job          {JOB}
function     demo.py:train
endpoint     trainer (app digits, environment dev)
status       FAILED after 2 s (2 attempts, 1 failure, 1 lost worker)
created      2023-11-14T22:13:20.000Z
worker       w-1 (host h1)
policy       timeout 1h, 1 retry
version      3fa9c1d2
environment  8d0a11 (Python 3.11, 5 packages)
requires     numpy>=2
pool         77aa
arguments    1.23 kB

where the time went: 2 s
  queued         400 µs  ▏
  environment         -
  worker start   9.6 ms  ▏
  load             5 ms  ▏
  run            1.99 s  ████████████████████████████████

attempts
TRY  END     WORKER  STARTED                     TOOK  EXIT                 ERROR
  1  lost    w-1     2023-11-14T22:13:20.500Z  500 ms  signal=9, oom=False  worker killed
  2  failed  w-2     2023-11-14T22:13:21.500Z     1 s  -                    ValueError: bad

events
  +1 s       lost  worker=w-1

error
{TRACEBACK}"""


def test_an_error_that_no_code_raised_says_of_what_kind_it_is(flash: Flash, engine: StandIn) -> None:
    lost = {"type": "WorkerLost", "message": "killed by SIGKILL", "kind": "lost"}
    engine.answers["job"] = rows(job_page(status="FAILED", error_info=lost))
    assert flash("job", "0001").out.endswith("\nerror\nWorkerLost: killed by SIGKILL\n(kind: lost)\n")


def test_a_job_that_waits_says_for_what(flash: Flash, engine: StandIn) -> None:
    engine.answers["job"] = rows(
        job_page(
            status="IN_QUEUE", attempts=0, worker="", started_at_ms=None, ended_at_ms=None, timing={},
            why="all 3 workers are busy",
        )
    )  # fmt: skip
    out = flash("job", "0001").out
    assert "status       IN_QUEUE (0 attempts)\n" in out
    assert "waits for    all 3 workers are busy\n" in out
    assert "where the time went" not in out


def test_the_page_is_plain_where_the_output_is_not_unicode(flash: Flash, engine: StandIn) -> None:
    out = flash("job", "0001", PYTHONIOENCODING="ascii").out
    assert "400 us  |" in out
    assert "################################" in out


def test_a_job_that_is_not_there_is_3(flash: Flash, engine: StandIn) -> None:
    code, out, err = flash("job", "beef")
    assert (code, out) == (3, "")
    assert err.startswith("flash: there is no job beef")


def test_a_part_of_an_id_that_is_not_enough_is_told_with_the_choices(flash: Flash, engine: StandIn) -> None:
    engine.answers["job"] = refusal("ambiguous_job", "eeee names 2 jobs", why=f"{JOB}, {OTHER}")
    code, _, err = flash("job", "eeee")
    assert code == 2
    assert OTHER in err


def test_cancel_takes_parts_of_ids_and_prints_whole_ones(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Cancel] = lambda _: [messages.Ok()]
    assert flash("cancel", "0001", "0002") == (0, f"{JOB}\n{OTHER}\n", "")
    assert [request.job for request in engine.requests(messages.Cancel)] == [JOB, OTHER]


def test_one_job_that_cannot_be_cancelled_does_not_save_the_others(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Cancel] = lambda cancel: (
        [messages.Error(code="already_ended", what="it has ended")] if cancel.job == JOB else [messages.Ok()]
    )
    code, out, err = flash("cancel", "0001", "beef", "0002")
    assert (code, out) == (1, f"{OTHER}\n")
    assert "it has ended" in err
    assert "there is no job beef" in err


def test_retry_in_json_says_what_became_of_each(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Retry] = lambda retry: [messages.Accepted(job=retry.job)]
    code, out, _ = flash("retry", "0001", "beef", "--json")
    assert code == 3
    assert json.loads(out) == [
        {"job": JOB, "ok": True, "result": "queued", "error": "", "code": ""},
        {"job": "beef", "ok": False, "result": "", "error": "there is no job beef", "code": "job_not_found"},
    ]


@pytest.mark.parametrize("verb", ["cancel", "retry", "job", "logs"])
def test_a_verb_about_jobs_wants_a_job(flash: Flash, verb: str) -> None:
    code, out, err = flash(verb)
    assert (code, out) == (2, "")
    assert "JOB" in err
