from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from runpod_flash._version import __version__
from runpod_flash.cli.failures import Verbs
from runpod_flash.cli.pages import Family
from runpod_flash.cli.verbs import VERBS
from runpod_flash.cli.verbs import flash as root
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn

SERVING = {("completion",), ("engine", "unit"), ("run",), ("runpod", "functions")}
"""What prints no facts: a script for a shell, a file for systemd, and lines as long as something is served."""


def verbs(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += verbs(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


def example_lines(verb: tuple[str, ...]) -> list[str]:
    command: click.Command = root
    for name in verb:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return (command.epilog or "").splitlines()


def test_version_is_one_line_on_stdout(flash: Flash) -> None:
    assert flash("--version") == (0, f"flash {__version__}\n", "")


def test_help_lists_every_verb_and_the_exit_codes(flash: Flash) -> None:
    code, out, _ = flash("--help")
    assert code == 0
    for verb in ("jobs", "job", "logs", "ps", "cancel", "retry", "purge", "deps", "engine", "completion"):
        assert f"\n  {verb} " in out
    assert "\n  130  Ctrl-C\n" in out


@pytest.mark.parametrize("verb", verbs(root), ids=" ".join)
def test_every_verb_has_a_page_as_manuals_have(verb: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(root, [*verb, "--help"], prog_name="flash")
    assert ended.exit_code == 0
    titles = [line for line in ended.output.splitlines() if line and not line.startswith(" ")]
    expected = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT CODES", "SEE ALSO"]
    assert titles == [title for title in expected if title in titles]
    assert {"NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT CODES"} <= set(titles)
    assert f"\nSYNOPSIS\n  flash {' '.join(verb)}" in ended.output
    assert f"flash {' '.join(verb)}" in ended.output.partition("\nEXAMPLES\n")[2].partition("\n")[0]
    assert ("--json" in ended.output) is (verb not in SERVING)
    assert max(map(len, ended.output.splitlines())) <= 100


@pytest.mark.parametrize("line", [line for verb in [(), *verbs(root)] for line in example_lines(verb)])
def test_every_example_of_a_help_page_is_understood(line: str) -> None:
    """Parsed as it stands there: options, values and verbs exist. What it is for follows two blanks."""
    command = line.partition("  ")[0]
    for part in re.findall(r"(?:^|\| (?:xargs )?|\$\()flash ([^|<>)]*)", command):
        understand(root, shlex.split(part.replace('"', "")))


def understand(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    name = parent.command.name if parent else "flash"
    if words and any(word in {"--help", "--version"} for word in words):
        return
    if isinstance(command, click.Group):
        context = command.make_context(name, list(words), parent=parent)
        verb, found, rest = command.resolve_command(context, words)
        assert found is not None, verb
        understand(found, rest, context)
    elif "xargs" not in words:
        words = words if command.name not in {"cancel", "retry"} or words else ["4e1f8a20"]
        command.make_context(name, list(words), parent=parent)


def test_a_verb_that_is_not_there_is_answered_with_the_one_that_was_meant(flash: Flash) -> None:
    code, out, err = flash("jbos")
    assert (code, out) == (2, "")
    assert "Did you mean 'jobs'?" in err


def test_a_wrong_option_is_answered_with_the_way_to_help(flash: Flash) -> None:
    code, out, err = flash("jobs", "--limit", "0")
    assert (code, out) == (2, "")
    assert "--limit" in err
    assert "flash jobs --help" in err


def test_the_words_beside_a_verb_are_the_first_of_its_page() -> None:
    """The list of verbs has them a second time, so that none is loaded for it."""
    assert isinstance(root, Verbs)
    assert root.terms() == Family.terms(root)


@pytest.mark.parametrize(
    ("words", "verbs"), [("['--version']", set()), ("['--help']", set()), ("['ps', '--help']", {"ps"})]
)
def test_no_verb_is_loaded_but_the_one_that_was_asked_for(words: str, verbs: set[str]) -> None:
    heavy = ("msgspec", "rich", "asyncio", "socket", "psutil", "uvloop", "cloudpickle")
    program = (
        "import sys, runpod_flash.cli.verbs as verbs\n"
        f"verbs.flash({words}, standalone_mode=False)\nprint('loaded:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    ours = {name.rpartition(".")[2] for name in loaded if name.startswith("runpod_flash.cli.")}
    every = {module for module, _words in VERBS.values()}
    assert loaded.isdisjoint(heavy)
    assert ours & every == verbs


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
