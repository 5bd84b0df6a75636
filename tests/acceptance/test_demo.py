"""The demo is the first thing that anybody runs, so it must do what it says, and leave nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo" / "digits.py"


@pytest.mark.timeout(300)  # its first run downloads scikit-learn
def test_the_demo_does_what_it_says_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLASH_")}
    said = subprocess.run(
        [sys.executable, DEMO],
        cwd=tmp_path,
        env={**environ, "FLASH_DEMO_HOME": str(home), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stdout
    assert "unseen digits read right" in said.stdout
    assert "ZeroDivisionError" in said.stdout
    assert "took over and told us" in said.stdout
    assert said.stdout.count("COMPLETED") >= 14
    assert [process for process in psutil.process_iter(["cmdline"]) if _mentions(process, home)] == []


def _mentions(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in process.info["cmdline"] or ())
