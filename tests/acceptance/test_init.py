"""What `flash init` makes passes its own tests, as it is, and `flash check` finds nothing in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FLASH = str(Path(sys.executable).with_name("flash"))


@pytest.mark.parametrize("options", [[], ["--single-file"]], ids=["directory", "single-file"])
def test_a_new_app_passes_its_own_tests(tmp_path: Path, options: list[str]) -> None:
    category = tmp_path / "01 with a space"
    category.mkdir()
    environ = {**os.environ, "UV_OFFLINE": "1", "PYTHONWARNINGS": "error"}
    subprocess.run([FLASH, "init", "02 my app", *options], cwd=category, check=True, capture_output=True)
    for command in ([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], [FLASH, "check", "--strict"]):
        done = subprocess.run(
            command, cwd=category / "02 my app", env=environ, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
