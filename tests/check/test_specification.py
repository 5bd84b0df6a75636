"""What the specification calls wrong is found at its line, and what it calls right is let pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.blocks import BLOCKS, piece
from tests.check.conftest import PRELUDE, Check, codes
from tests.check.verdicts import IMPORTS, VERDICTS, Verdict

PACKAGES = ("torch", "transformers", "requests", "boto3")
"""What blocks use and the tests do not have."""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those, installed as far as anybody can see who does not import them."""
    site = tmp_path / "site-packages"
    for name in PACKAGES:
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text(f"raise AssertionError('{name} was imported')\n")
        info = site / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n")
    monkeypatch.syspath_prepend(site)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.block)
def test_a_block_is_found_wrong_where_it_says_so_and_nowhere_else(
    tmp_path: Path, check: Check, verdict: Verdict
) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {list(verdict.required)}\n")
    above = IMPORTS + verdict.prelude
    shift = above.count("\n")
    strict = {(one.line - shift, one.rule.code) for one in check(BLOCKS[verdict.block], prelude=above)}
    assert strict.issuperset(verdict.found.items())
    default = {one.line - shift for one in check(BLOCKS[verdict.block], prelude=above, strict=False)}
    assert default == set(verdict.shown)


UNPICKLABLE = {
    "File objects (open files)": "thing = open('data.txt')",
    "Database connections": "import sqlite3\nthing = sqlite3.connect('data.db')",
    "Thread/Process objects": "import threading\nthing = threading.Thread()",
}


@pytest.mark.parametrize("kind", UNPICKLABLE)
def test_what_the_list_of_the_specification_calls_not_serializable_is_found(check: Check, kind: str) -> None:
    text = f"{UNPICKLABLE[kind]}\n@remote(config)\nasync def work() -> str:\n    return str(thing)\n"
    (found,) = [one for one in check(text, strict=False) if one.rule.code == "FL107"]
    assert found.line == (PRELUDE + text).count("\n")


def test_an_open_file_inside_the_function_is_fine_as_the_specification_says(check: Check) -> None:
    text = "def process_file(f): return f.read()\n" + piece("arguments", start="# Handling")
    assert codes(check(text, strict=False)) == []
