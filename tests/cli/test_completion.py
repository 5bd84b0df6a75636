"""Completion, in the shells that are on this machine, typed as a person types it."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Flash
from tests.cli.standin import JOB, OTHER, StandIn, Then, job_row, rows


@pytest.fixture
def bash(flash: Flash, tmp_path: Path) -> Flash:
    """A machine where `flash` is on the path."""
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "flash"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PROGRAM[2]}' \"$@\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    flash.environ["PATH"] = f"{folder}:{flash.environ['PATH']}"
    return flash


def completed(machine: Flash, line: str) -> list[str]:
    """What bash offers at the end of the line."""
    words = line.split(" ")
    script = f"""
        eval "$(flash completion bash)"
        COMP_WORDS=({" ".join(f'"{word}"' for word in words)})
        COMP_CWORD={len(words) - 1}
        COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}
        spec=$(complete -p flash); [[ $spec =~ -F\\ ([^ ]+) ]] && "${{BASH_REMATCH[1]}}" flash
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=machine.environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_verbs_and_options_are_completed(bash: Flash) -> None:
    assert completed(bash, "flash ca") == ["call", "cancel"]
    assert completed(bash, "flash jobs --un") == ["--until"]
    assert completed(bash, "flash jobs --status ti") == ["TIMED_OUT"]
    assert completed(bash, "flash engine st") == ["start", "stop", "status"]


def test_names_and_ids_are_completed_from_the_engine_that_runs(bash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = rows(job_row(), job_row(job=OTHER))
    assert completed(bash, "flash ps --endpoint tr") == ["trainer"]
    assert completed(bash, "flash jobs --function ") == ["train"]
    assert completed(bash, "flash job ") == [JOB[-8:], OTHER[-8:]]
    assert completed(bash, f"flash job {JOB[:9]}") == [JOB, OTHER]
    completed(bash, "flash retry ")
    assert engine.queries("jobs")[-1].filter == {"status": ["FAILED", "TIMED_OUT"]}


def test_without_an_engine_nothing_is_completed_and_none_is_started(bash: Flash) -> None:
    assert completed(bash, "flash job ") == []
    assert list(bash.home.iterdir()) == []


def test_an_engine_in_trouble_completes_nothing(bash: Flash, engine: StandIn) -> None:
    engine.answers["jobs"] = lambda _: [rows()(None)[0], Then.HANG_UP]  # type: ignore[index]
    assert completed(bash, "flash job ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(flash: Flash, shell: str) -> None:
    code, out, err = flash("completion", shell)
    assert (code, err) == (0, "")
    assert f"_FLASH_COMPLETE={shell}_complete" in out
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=out, text=True, check=True)


def test_another_shell_is_told_which_there_are(flash: Flash) -> None:
    code, out, err = flash("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "'bash', 'zsh', 'fish'" in err
