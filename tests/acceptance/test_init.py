"""What `flash init` makes passes its own tests as it is; neither `flash check` nor a type checker finds a fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLASH = str(Path(sys.executable).with_name("flash"))


@pytest.mark.parametrize("options", [[], ["--single-file"]], ids=["directory", "single-file"])
def test_a_new_app_passes_its_own_tests(tmp_path: Path, options: list[str]) -> None:
    category = tmp_path / "01 with a space"
    category.mkdir()
    cache = tmp_path / "cache"  # a copy, as the new app's modules have names that ours have too
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", cache)
    environ = {**os.environ, "UV_OFFLINE": "1", "PYTHONWARNINGS": "error"}
    subprocess.run([FLASH, "init", "02 my app", *options], cwd=category, check=True, capture_output=True)
    for command in (
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        [FLASH, "check", "--strict"],
        [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={cache}", "."],
    ):
        done = subprocess.run(
            command, cwd=category / "02 my app", env=environ, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
