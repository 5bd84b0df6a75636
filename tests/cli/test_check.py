"""`flash check` as a stranger sees it: lines, pictures on a terminal, JSON, exit codes, and --fix."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Flash

HEAD = 'from runpod_flash import CpuLiveServerless, remote\n\nconfig = CpuLiveServerless(name="demo")\n\n\n'
GOOD = f"{HEAD}@remote(config)\nasync def double(number: int) -> int:\n    return number * 2\n"
WRONG = f"{HEAD}@remote(config)\nasync def area(radius: float) -> float:\n\treturn 'ü' and radius * PI\n"
FIXABLE = f"""\
import numpy as np  # arrays
{HEAD}@remote(config)
async def mean(items: list) -> float:
    return np.mean(items)
"""


@pytest.fixture
def folder(home: Path) -> Path:
    """Where the command runs."""
    return home.parent


def test_what_is_right_is_checked_in_silence(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(GOOD)
    assert flash("check", "app.py") == (0, "", "nothing found in 1 file\n")


def test_a_finding_is_one_line_in_a_pipe(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(WRONG, encoding="utf-8")
    assert flash("check") == (
        1,
        "app.py:8:26: error FL101 the name 'PI' is defined nowhere; area would fail with a NameError; "
        "define or import PI inside area\n",
        "1 error in 1 file\n",
    )


def test_a_terminal_shows_the_line_and_marks_the_place(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(WRONG, encoding="utf-8")
    seen = flash.on_terminal("check", "app.py", NO_COLOR="1")
    assert seen == (
        "error FL101 the name 'PI' is defined nowhere\n"
        " --> app.py:8:26\n"
        "  |\n"
        "8 |  return 'ü' and radius * PI\n"
        "  |                          ^^\n"
        "  = why: area would fail with a NameError\n"
        "  = fix: define or import PI inside area\n"
        "\n"
        "1 error in 1 file\n"
    )


def test_json_has_the_facts_of_each_finding(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(WRONG, encoding="utf-8")
    (folder / "notes.ipynb").write_text("{")
    code, out, _ = flash("check", "app.py", "notes.ipynb", "--json")
    said = json.loads(out)
    (finding,) = said.pop("findings")
    assert code == 1
    assert said == {
        "files": 1,
        "skipped": [{"path": "notes.ipynb", "reason": "it is a notebook"}],
        "hidden_notes": 0,
    }
    assert finding == {
        "code": "FL101",
        "rule": "undefined-name",
        "severity": "error",
        "path": "app.py",
        "line": 8,
        "column": 26,
        "end_line": 8,
        "end_column": 28,
        "what": "the name 'PI' is defined nowhere",
        "why": "area would fail with a NameError",
        "fix": "define or import PI inside area",
        "mendable": False,
    }


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["ap.py"], "there is no file or folder 'ap.py'. Did you mean 'app.py'?"),
        (["app.py", "--ignore", "FL1011"], "there is no rule FL1011. Did you mean 'FL101'?"),
    ],
)
def test_what_is_not_there_is_wrong_usage(flash: Flash, folder: Path, args: list[str], said: str) -> None:
    (folder / "app.py").write_text(GOOD)
    code, out, err = flash("check", *args)
    assert (code, out) == (2, "")
    assert said in err


def test_notes_are_for_the_strict_view_and_for_who_names_them(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(GOOD.replace("async def", "def"))
    assert flash("check") == (0, "", "nothing found in 1 file; 1 note more with --strict\n")
    assert flash("check", "--strict")[0] == 1
    assert "note FL201 double is a plain def" in flash("check", "--select", "fl2")[1]
    assert flash("check", "--strict", "--ignore", "FL201")[0] == 0


def test_the_command_loads_no_event_loop_and_no_client(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(WRONG, encoding="utf-8")
    heavy = ("asyncio", "msgspec", "rich", "runpod_flash.client", "runpod_flash.payload")
    program = (
        "import sys\nfrom runpod_flash.cli.verbs import flash\n"
        "try: flash(['check', 'app.py'])\n"
        f"finally: print(*[m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == ["1 error in 1 file", ""]


# ── --fix ─────────────────────────────────────────────────────────────────────────────────────────

FIXED = """\
from runpod_flash import CpuLiveServerless, remote

config = CpuLiveServerless(name="demo")


@remote(config, dependencies=["numpy=={version}"])
async def mean(items: list) -> float:
    import numpy as np  # arrays
    return np.mean(items)
"""


def fixed() -> str:
    from importlib.metadata import version

    return FIXED.format(version=version("numpy"))


def test_without_a_terminal_a_fix_is_shown_and_not_made(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(FIXABLE)
    code, out, err = flash("check", "--fix")
    assert code == 1
    assert "--- a/app.py\n+++ b/app.py\n" in out
    assert "+    import numpy as np  # arrays\n" in out
    assert "say `flash check --fix --yes`" in err
    assert (folder / "app.py").read_text() == FIXABLE


def test_yes_writes_and_what_is_left_is_listed(flash: Flash, folder: Path) -> None:
    file = folder / "app.py"
    file.write_text(FIXABLE + "    return PI\n")
    file.chmod(0o640)
    code, out, err = flash("check", "--fix", "--yes")
    assert code == 1
    assert out.splitlines()[-1].startswith("app.py:10:12: error FL101")
    assert err == "1 file changed\n1 error in 1 file\n"
    assert file.read_text() == fixed() + "    return PI\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [name for name in os.listdir(folder) if name.startswith(".")] == []


def test_a_link_stays_a_link_and_what_it_leads_to_is_mended(flash: Flash, folder: Path) -> None:
    (folder / "real").mkdir()
    real = folder / "real" / "app.py"
    real.write_text(FIXABLE)
    (folder / "link.py").symlink_to(real)
    assert flash("check", "link.py", "--fix", "--yes")[0] == 0
    assert (folder / "link.py").is_symlink()
    assert real.read_text() == fixed()


def test_with_json_a_fix_is_among_the_facts(flash: Flash, folder: Path) -> None:
    (folder / "app.py").write_text(FIXABLE)
    code, out, _ = flash("check", "--fix", "--json")
    said = json.loads(out)
    assert code == 1
    assert [one["code"] for one in said["findings"]] == ["FL103", "FL109"]
    (mend,) = said["mends"]
    assert mend["path"] == "app.py"
    assert mend["diff"].startswith("--- a/app.py\n")
    assert not mend["written"]
    assert json.loads(flash("check", "--fix", "--yes", "--json")[1])["mends"][0]["written"]
