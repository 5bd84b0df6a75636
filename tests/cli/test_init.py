from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.cli.conftest import PROGRAM, Flash

SCHEMA = Path(__file__).parents[2] / "docs/reference/schemas/init.json"


@pytest.fixture
def place(flash: Flash) -> Path:
    """The folder that the command runs in."""
    return flash.home.parent


def test_a_new_app_lists_its_files_on_stdout_and_what_to_type_next_on_stderr(flash: Flash, place: Path) -> None:
    code, out, err = flash("init", "my app")
    assert code == 0
    assert "+ main.py\n" in out
    assert "cd 'my app'" in err
    assert "flash run" in err
    made = {str(path.relative_to(place / "my app")) for path in (place / "my app").rglob("*") if path.is_file()}
    assert {f"+ {path}" for path in made} == set(out.splitlines())


def test_files_in_the_way_are_named_and_stay(flash: Flash, place: Path) -> None:
    (place / "app").mkdir()
    (place / "app" / "main.py").write_text("mine\n")
    code, out, err = flash("init", "app")
    assert (code, out) == (1, "")
    assert "1 file in" in err
    assert "\n  main.py\n" in err
    assert "--force" in err
    assert [path.name for path in (place / "app").iterdir()] == ["main.py"]
    assert (place / "app" / "main.py").read_text() == "mine\n"


def test_force_overwrites_and_leaves_what_is_the_same(flash: Flash, place: Path) -> None:
    flash("init", "app")
    (place / "app" / "main.py").write_text("mine\n")
    code, out, _ = flash("init", "app", "--force", "--json")
    told = json.loads(out)
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert code == 0
    assert (told["created"], told["overwritten"]) == ([], ["main.py"])
    assert "README.md" in told["kept"]
    assert "FastAPI" in (place / "app" / "main.py").read_text()


@pytest.mark.parametrize(("answer", "text", "others"), [("keep", "mine\n", True), ("stop", "mine\n", False)])
def test_on_a_terminal_it_asks(flash: Flash, place: Path, answer: str, text: str, others: bool) -> None:
    (place / "app").mkdir()
    (place / "app" / "main.py").write_text("mine\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "init", "."],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=flash.environ,
        cwd=place / "app",
    ) as running:
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        _, err = running.communicate(timeout=60)
    os.close(ours)
    assert b"\n  main.py\n" in err
    assert (place / "app" / "main.py").read_text() == text
    assert (place / "app" / "README.md").exists() is others
    assert running.returncode == (0 if others else 1)


def test_workers_can_be_single_files(flash: Flash, place: Path) -> None:
    assert flash("init", "app", "--single-file").code == 0
    assert (place / "app" / "gpu_worker.py").is_file()
    assert not (place / "app" / "workers").exists()
