"""A home and a run folder for every test, and engines that stand in for the real one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.client import background, launch
from tests.client.engine_double import EngineDouble


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """FLASH_HOME, and a run folder of its own with a short path."""
    run = Path(tempfile.mkdtemp(prefix="fl"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    folder = tmp_path / "home"
    monkeypatch.setenv("FLASH_HOME", str(folder))
    monkeypatch.setenv("FLASH_APP", "tests")
    # Where a test has no engine, none shall be started behind its back.
    monkeypatch.setattr(launch, "DAEMON", ("-c", "import time; time.sleep(3)"))
    folder.mkdir()
    yield folder
    background.stop()
    shutil.rmtree(run, ignore_errors=True)


@pytest.fixture
def engine(home: Path) -> Iterator[EngineDouble]:
    """An engine that listens."""
    double = EngineDouble(home)
    double.start()
    yield double
    background.stop()
    double.stop()
