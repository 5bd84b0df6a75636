"""Whatever is typed: an exit code that is documented, a sentence on stderr, and never a traceback of ours.

In this process, against a real engine that all of it shares, so that thousands of lines are typed in seconds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.cli.failures import CODES
from runpod_flash.cli.verbs import flash as root
from runpod_flash.client import environment
from runpod_flash.testing import isolated_engine


@remote(CpuLiveServerless(name="hostile", workersMax=1))
def works(n: int) -> int:
    return n


@pytest.fixture(scope="module", autouse=True)
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine with a job on record, and an empty folder where `init` may write and `build` finds nothing."""
    with pytest.MonkeyPatch.context() as patch, isolated_engine():
        patch.chdir(tmp_path_factory.mktemp("typed"))
        patch.setattr(environment, "_program", None)  # a verb may set it for its process, which ends soon; not so here
        patch.setattr(environment, "_open", False)
        yield works.sync(1).id


ODD = [
    *(
        "",
        "-",
        "--",
        "-1",
        "0",
        "%",
        "_%",
        "'; DROP TABLE jobs; --",
        "\x1b[31m",
        "\n",
        "ffff",
        "deadbeef",
        "../..",
    ),
    *(
        "9" * 30,
        "1e999",
        "nan",
        "١٢٣",
        "🚀",
        "a" * 5000,
        "é́",
        "\ud800",
        "$HOME",
        "{}",
        "[1]",
        "NULL",
        "hostile",
        "works",
    ),
    *("1h", "-1h", "0s", "99999999d", "1.5.5h", "2026-11-20", "2026-13-45", "0001-01-01", "9999-12-31T23:59:59+14:00"),
    *("COMPLETED", "completed,failed", ",", "in-queue"),
]
TEXT = st.text(st.characters(exclude_characters="\x00"), max_size=40)
"""A line of a terminal can hold any byte but the one that ends its words."""
WORDS = st.one_of(st.sampled_from(ODD), TEXT, st.integers().map(str), st.floats().map(str))
NOT_TYPED = {"call", "check", "doctor", "completion", "functions"}
"""They have hostile tests of their own, read files of this folder, talk to no engine (`completion`), or serve until
Ctrl-C (`runpod functions`)."""
NOT_ADDED = {"--follow", "-f", "--yes", "-y"}
"""One has no end, the other would make an end of the job that others look at."""
NEVER = {"stop", "restart", "start", "restore", "backup", "verify", "prune"}
"""These would take the engine from under the others, or write where nobody looks."""


def leaves(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, *path, name)
        elif name not in NEVER | NOT_TYPED:
            yield (*path, name), command


VERBS = dict(leaves(root))


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A verb of ours with options of its own, some right, some wrong, in any order."""
    path = draw(st.sampled_from(sorted(VERBS)))
    words = list(path)
    options = [one for one in VERBS[path].params if isinstance(one, click.Option)]
    for option in draw(st.lists(st.sampled_from(options), max_size=4)) if options else []:
        flag = draw(st.sampled_from(option.opts))
        if flag not in NOT_ADDED:
            words += [flag] if option.is_flag else [flag, draw(WORDS)]
    return words + draw(st.lists(WORDS, max_size=2))


def typed(words: list[str]) -> Result:
    return CliRunner(catch_exceptions=False).invoke(root, words, prog_name="flash", env={"COLUMNS": "100"})


def is_told_well(words: list[str], ended: Result) -> None:
    line = shlex.join(words)
    assert ended.exit_code in CODES, line
    assert "Traceback (most recent call last)" not in ended.output, line
    assert "flash itself failed" not in ended.output, f"{line}\n{ended.output}"
    if ended.exit_code:
        said = ended.stderr.strip()
        assert said, f"nothing was said about {line}"
        assert len(said.split()) >= 5, f"{line}: {said}"


@given(words=lines())
def test_no_line_ends_in_a_traceback(words: list[str]) -> None:
    is_told_well(words, typed(words))


@pytest.mark.parametrize("verb", ["job", "logs", "cancel", "retry"])
def test_a_job_that_cannot_be_is_no_job(verb: str, job: str) -> None:
    for text in ODD:
        ended = typed([verb, "--", text])
        is_told_well([verb, text], ended)
        assert ended.exit_code in {2, 3}, text
    assert typed(["job", job]).exit_code == 0, "and the engine is well"


@pytest.mark.parametrize("option", ["--endpoint", "--function", "--app", "--env"])
def test_a_name_that_nothing_has_is_told(option: str) -> None:
    for verb in (["jobs"], ["purge", "--ended", "--yes", "--older-than", "9d"]):
        for text in ODD[len(option) % 2 :: 2]:
            words = [*verb, f"{option}={text}"]
            is_told_well(words, typed(words))


@given(words=st.lists(WORDS, min_size=1, max_size=4))
def test_what_is_no_verb_at_all_is_told(words: list[str]) -> None:
    is_told_well(words, typed(words))


def test_a_data_folder_that_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for home in ("/proc/nowhere", "/dev/null", "\udce9"):
        monkeypatch.setenv("FLASH_HOME", home)
        ended = typed(["jobs"])
        is_told_well(["jobs"], ended)
        assert ended.exit_code == (2 if "\udce9" in home else 4)
        assert "\n  why: " in ended.stderr
        assert "\n  fix: " in ended.stderr
        assert "[flash]" not in ended.stderr, "a notice for programs that call"
