"""Which files are checked; and that whatever lies in a folder ends in a finding or a reason, never in an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from runpod_flash.check import run
from tests.check.conftest import PRELUDE

WRONG = PRELUDE + "@remote(config)\nasync def area(radius: float) -> float:\n    return radius * PI\n"


def report(*paths: Path | str, strict: bool = False) -> run.Report:
    return run.check([str(path) for path in paths], run.View(strict=strict))


def found(*paths: Path | str) -> list[tuple[str, str]]:
    return [(os.path.basename(one.path), one.rule.code) for one in report(*paths).findings]


def put(path: Path, text: str | bytes = WRONG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_folders_are_searched_but_not_what_others_made(tmp_path: Path) -> None:
    put(tmp_path / "app.py")
    put(tmp_path / "deep" / "down" / "more.py")
    put(tmp_path / "deep" / "notes.txt")
    for folder in (".hidden", "node_modules/a", "__pycache__", "site-packages/b", "venv/lib"):
        put(tmp_path / folder / "other.py")
    put(tmp_path / "my environment" / "pyvenv.cfg", "")
    put(tmp_path / "my environment" / "other.py")
    assert found(tmp_path) == [("app.py", "FL101"), ("more.py", "FL101")]


@pytest.mark.parametrize("name", [".gitignore", ".flashignore"])
def test_ignore_files_count_from_where_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / ".git").mkdir()
    put(tmp_path / name, "/build/\n*_generated.py\n!kept_generated.py\n")
    put(tmp_path / "lib" / name, "local.py\n")
    for path in (
        "build/a.py",
        "lib/build/b.py",
        "lib/x_generated.py",
        "lib/kept_generated.py",
        "lib/local.py",
        "local.py",
    ):
        put(tmp_path / path)
    names = ["b.py", "kept_generated.py", "local.py"]
    assert sorted(name for name, _ in found(tmp_path)) == names
    assert sorted(name for name, _ in found(tmp_path / "lib")) == names[:2]
    assert found(tmp_path / "build" / "a.py") == [("a.py", "FL101")], "what is named is checked"


def test_a_file_that_is_named_twice_is_checked_once(tmp_path: Path) -> None:
    file = put(tmp_path / "app.py")
    (tmp_path / "same.py").symlink_to(file)
    assert found(tmp_path, file) == [("app.py", "FL101")]


TOO_DEEP = "FL001" if sys.version_info >= (3, 11) else "FL101"
"""Python 3.10 reads what later ones give up on, so what is wrong in it is found."""

HOSTILE = {
    "empty": (b"", None),
    "bytes": (b"\x80\xff\x00\x01" * 100, "FL002"),
    "null": (WRONG.encode() + b"\n\0\n", "FL001"),
    "mark": (b"\xef\xbb\xbf" + WRONG.encode(), "FL101"),
    "cookie": (b"# coding: latin-1\nname = '\xe9'\n" + WRONG.encode(), "FL101"),
    "wrong cookie": (b"# coding: nowhere-8\n" + WRONG.encode(), "FL002"),
    "no text": (b"# coding: rot13\n" + WRONG.encode(), "FL002"),
    "utf-16": (WRONG.encode("utf-16"), "FL002"),
    "not utf-8": (b"name = '\xe9'\n" + WRONG.encode(), "FL002"),
    "syntax": (b"def f(:\n", "FL001"),
    "tabs": (b"if x:\n\ty\n        z\n", "FL001"),
    "python 2": (b"print 'hello'\n", "FL001"),
    "brackets": (b"x = " + b"(" * 1000 + b")" * 1000, "FL001"),
    "minus": (WRONG.encode() + b"x = " + b"-" * 50_000 + b"1\n", "FL001"),
    "sum": (WRONG.encode() + b"x = " + b"1 + " * 50_000 + b"1\n", TOO_DEEP),
    "attributes": (WRONG.encode() + b"x = a" + b".b" * 20_000 + b"\n", TOO_DEEP),
    "returns": (WRONG.encode().replace(b"\n", b"\r"), "FL101"),
    "long line": (WRONG.encode() + b"x = '" + b"a" * 2_000_000 + b"'\n", "FL101"),
    "escapes": (WRONG.encode() + b"x = '\\d' is 'a'\n", "FL101"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_a_finding_and_other_files_go_on(tmp_path: Path, name: str) -> None:
    text, code = HOSTILE[name]
    put(tmp_path / "a.py", text)
    put(tmp_path / "b.py")
    assert found(tmp_path) == [*([("a.py", code)] if code else []), ("b.py", "FL101")]


def test_the_line_that_is_no_python_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.py", "x = 1\ny = 2\nz = = 3\n")
    put(tmp_path / "b.py", b"x = 1\ny = '\xe9'\n")
    put(tmp_path / "c.py", b"x = 1\n\n\0\n")
    assert [one.line for one in report(tmp_path).findings] == [3, 2, 3]


def test_deep_nesting_that_python_can_read_is_checked_or_told(tmp_path: Path) -> None:
    for depth in (50, 90, 500, 900):
        put(tmp_path / f"{depth}.py", WRONG + "x = " + "a." * depth + "b\n")
    assert all(code in ("FL101", "FL001") for _, code in found(tmp_path))
    assert len(found(tmp_path)) == 4


def test_links_in_circles_and_links_to_nothing_end(tmp_path: Path) -> None:
    put(tmp_path / "app" / "a.py")
    (tmp_path / "app" / "again").symlink_to(tmp_path)
    (tmp_path / "app" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "app" / "loop.py").symlink_to(tmp_path / "app" / "loop.py")
    (tmp_path / "app" / "folder.py").symlink_to(tmp_path / "app")
    assert found(tmp_path) == [("a.py", "FL101"), ("gone.py", "FL002"), ("loop.py", "FL002")]


def test_what_is_no_ordinary_file_is_skipped_with_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    put(tmp_path / "big.py", b"x = 1\n" * 1_000_000)
    put(tmp_path / "book.ipynb", "{")
    put(tmp_path / "notes.md", "")
    skipped = report(tmp_path, tmp_path / "book.ipynb", tmp_path / "notes.md").skipped
    assert {os.path.basename(one.path): one.reason for one in skipped} == {
        "pipe.py": "it is no regular file",
        "big.py": "it is larger than 5 MB: written by a program",
        "book.ipynb": "it is a notebook",
        "notes.md": "it is no Python file (.py)",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    put(tmp_path / "locked" / "a.py")
    put(tmp_path / "b.py").chmod(0)
    (tmp_path / "locked").chmod(0)
    try:
        said = report(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert [one.rule.code for one in said.findings] == ["FL002"]
    assert [one.reason for one in said.skipped] == ["the folder cannot be read: Permission denied"]


def test_nothing_of_the_users_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "mine.py", "print('imported')\n")
    put(
        tmp_path / "app.py",
        "import mine\nprint('run')\n" + PRELUDE + "@remote(config, **mine.options())\ndef f(): mine.g()\n",
    )
    report(tmp_path, strict=True)
    assert capsys.readouterr().out == ""
