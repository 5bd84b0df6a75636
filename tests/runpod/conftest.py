"""Runpod's own package, as programs of users have it: the real thing, in an environment of its own.

It is installed once, into the user's cache folder, and shared by all tests and runs of them. It is no requirement of
ours, and nothing of it is imported here.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.gateway.stage import Stage, stage
from tests.runpod.served import cache

VERSION: Final = "1.12.0"
LIMITS: Final = {"FLASH_RUN_BODY": "1MB", "FLASH_RUNSYNC_BODY": "2MB"}


@pytest.fixture(scope="session")
def runpod_python() -> Path:
    """The interpreter of an environment with `runpod==1.12.0`."""
    folder = cache() / f"runpod-{VERSION}-{sys.version_info[0]}.{sys.version_info[1]}"
    with open(f"{folder}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs of tests at once install it once
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--quiet", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), f"runpod=={VERSION}")
            (folder / "complete").touch()
    return folder / "bin" / "python"


def _uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An engine and a gateway with two endpoints, `echo` of one function and `two` of two, and no workers for them."""
    with stage(tmp_path_factory.mktemp("runpod") / "home", FLASH_GATEWAY_BODY="4MB", **LIMITS) as one:
        one.builds = "later"
        for name, endpoint in (("m:echo", "echo"), ("m:first", "two"), ("m:second", "two")):
            one.declare(name, endpoint=endpoint)
        yield one
