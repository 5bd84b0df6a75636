from __future__ import annotations

import subprocess
import sys

import click
import pytest

from runpod_flash._version import __version__
from runpod_flash.cli.main import flash as root
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn


def verbs(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += verbs(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


def test_version_is_one_line_on_stdout(flash: Flash) -> None:
    assert flash("--version") == (0, f"flash {__version__}\n", "")


def test_help_lists_every_verb_and_the_exit_codes(flash: Flash) -> None:
    code, out, _ = flash("--help")
    assert code == 0
    for verb in ("jobs", "job", "logs", "ps", "cancel", "retry", "deps", "engine"):
        assert f"\n  {verb} " in out
    assert "130 Ctrl-C" in out


@pytest.mark.parametrize("verb", verbs(root), ids=" ".join)
def test_every_verb_explains_itself_with_examples_and_has_json(flash: Flash, verb: tuple[str, ...]) -> None:
    code, out, _ = flash(*verb, "--help")
    assert code == 0
    assert f"\n  Examples:\n    flash {' '.join(verb)}" in out
    assert "--json" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_verb_that_is_not_there_is_answered_with_the_one_that_was_meant(flash: Flash) -> None:
    code, out, err = flash("jbos")
    assert (code, out) == (2, "")
    assert "Did you mean 'jobs'?" in err


def test_a_wrong_option_is_answered_with_the_way_to_help(flash: Flash) -> None:
    code, out, err = flash("jobs", "--limit", "0")
    assert (code, out) == (2, "")
    assert "--limit" in err
    assert "flash jobs --help" in err


def test_version_and_help_load_nothing_that_only_verbs_need() -> None:
    heavy = ("msgspec", "rich", "asyncio", "socket", "psutil", "uvloop", "cloudpickle", "json.decoder")
    program = f"import sys, runpod_flash.cli.main; print(*[m for m in {heavy[:-1]} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []


def test_a_reader_that_has_seen_enough_ends_the_command_in_silence(flash: Flash, engine: StandIn) -> None:
    from tests.cli.standin import job_row, rows

    engine.answers["jobs"] = rows(*(job_row(fn="f" * 1000) for _ in range(500)))
    with flash.start("jobs", "--limit", "500") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 141
