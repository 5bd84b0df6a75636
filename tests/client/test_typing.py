"""What a type checker tells who uses us: every program of `typed/`, and nothing but the errors that it expects."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "typed"


def expected() -> set[str]:
    """`file:line code` for everything behind a mark `# E: code`; more than one code may stand there."""
    found: set[str] = set()
    for file in PROGRAMS.glob("*.py"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if mark := re.search(r"# E: ([a-z, -]+)$", line):
                found.update(f"{file.name}:{number} {code}" for code in mark[1].split(", "))
    return found


def test_types_are_what_they_should_be_and_mistakes_are_errors_at_their_line() -> None:
    words = ["--no-error-summary", "--hide-error-context", *map(str, sorted(PROGRAMS.glob("*.py")))]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not checked.stderr
    found = {
        f"{Path(file).name}:{line} {code}"
        for file, line, code in re.findall(r"^(\S+?):(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    }
    assert found == expected(), checked.stdout


def test_the_wheel_says_that_it_has_types(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert {"runpod_flash/py.typed", "tetra_rp/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())
