from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn, Then, refusal, rows


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("no_job", 3),
        ("ambiguous_job", 2),
        ("bad_request", 2),
        ("unsupported", 4),
        ("store_unavailable", 4),
        ("queue_full", 4),
        ("already_ended", 1),
        ("not_retryable", 1),
    ],
)
def test_what_the_engine_refuses_is_told_with_why_and_fix(
    flash: Flash, engine: StandIn, code: str, exit_code: int
) -> None:
    engine.answers["jobs"] = refusal(code, "it cannot be", why="because", fix="type this")
    ended = flash("jobs")
    assert (ended.code, ended.out) == (exit_code, "")
    assert ended.err.startswith("flash: it cannot be")
    assert "  why:   because\n  fix:   type this\n" in ended.err
    assert "Traceback" not in ended.err


def test_a_traceback_is_there_for_those_who_ask(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = refusal("store_unavailable", "the disk is full")
    assert "Traceback" in flash("jobs", FLASH_DEBUG="1").err


def test_an_engine_that_refuses_to_talk_is_told_in_its_words(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Hello] = lambda _: [messages.Refuse(code="token", what="wrong token", fix="get one")]
    code, out, err = flash("jobs")
    assert (code, out) == (4, "")
    assert "the engine refused: wrong token" in err
    assert "fix:   get one" in err


def test_an_engine_that_is_leaving_is_asked_again(flash: Flash, engine: StandIn) -> None:
    greet = engine.answers[messages.Hello]
    leaving: list[list[messages.Head | Then]] = [
        [messages.Refuse(code="handover", what="leaving", handover=True)],
        [Then.HANG_UP],
    ]
    engine.answers[messages.Hello] = lambda hello: leaving.pop() if leaving else greet(hello)
    engine.answers["jobs"] = rows()
    assert flash("jobs").code == 0
    assert len(engine.requests(messages.Hello)) == 3


def test_an_engine_that_dies_in_the_middle_is_told(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = lambda _: [Then.HANG_UP]
    code, out, err = flash("jobs")
    assert (code, out) == (4, "")
    assert "the engine went away" in err


def test_bytes_that_are_no_answer_are_told_and_not_shown(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = lambda _: [messages.Pong()]
    code, _, err = flash("jobs")
    assert code == 1
    assert "Traceback" not in err


def test_a_wrong_setting_is_a_wrong_usage(flash: Flash) -> None:
    code, out, err = flash("jobs", FLASH_ENGINE="deamon")
    assert (code, out) == (2, "")
    assert "FLASH_ENGINE" in err
    assert "daemon" in err


def test_a_bug_of_ours_is_a_sentence(flash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows({"nothing": "of use"})
    code, out, err = flash("jobs")
    assert (code, out) == (1, "")
    assert err.startswith("flash: flash itself failed: KeyError")
    assert "Traceback" not in err


def test_what_a_disk_refuses_is_no_bug_of_ours(flash: Flash) -> None:
    code, out, err = flash("init", "x" * 300)
    assert (code, out) == (1, "")
    assert err.endswith(
        "/" + "x" * 300 + " cannot be used\n  why:   File name too long\n  fix:   choose a shorter name\n"
    )


def test_ctrl_c_while_modules_are_imported_shows_none_of_them(flash: Flash) -> None:
    with flash.start("jobs", PYTHONPROFILEIMPORTTIME="1") as running:
        assert running.stderr is not None
        while "click.types" not in running.stderr.readline():
            pass
        running.send_signal(signal.SIGINT)
        assert "Traceback" not in running.stderr.read()
    assert running.returncode in {-signal.SIGINT, 130}


def test_ctrl_c_ends_with_130_and_no_words(flash: Flash, engine: StandIn) -> None:
    engine.answers[messages.Attach] = lambda _: [
        messages.State(job="j", status="IN_QUEUE", why="no room"),
        Then.SAY_NO_MORE,
    ]
    engine.answers["logs"] = rows()
    with flash.start("logs", "0001", "-f") as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "IN_QUEUE: no room\n"
        running.send_signal(signal.SIGINT)
        assert running.stderr.read().strip() == ""
    assert running.returncode == 130


def test_in_a_folder_that_was_deleted_verbs_work_or_say_so(tmp_path: Path) -> None:
    script = "mkdir gone && cd gone && rmdir ../gone && exec"
    told = {}
    for words in ("engine status", "engine backup here", "call app.py::run", "doctor"):
        command = f"{script} {sys.executable} -I -c 'from runpod_flash.cli.main import main; main()' {words}"
        environ = {**os.environ, "FLASH_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        told[words] = (done.returncode, done.stderr.partition("\n")[0])
    gone = (2, "flash: the current folder is gone")
    assert told["engine backup here"] == told["call app.py::run"] == gone
    assert (told["engine status"][0], told["doctor"][0]) == (4, 0)
