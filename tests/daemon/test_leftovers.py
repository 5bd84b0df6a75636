from __future__ import annotations

import os
from pathlib import Path

import pytest

from runpod_flash.daemon import leftovers, lock


@pytest.fixture
def runs(short_path: Path) -> Path:
    """Run folders of four data folders, of which one is still there, one has an engine, one a worker that is left."""
    for name in ("gone", "kept", "runs", "worker", "unsigned"):
        (short_path / "run" / name / "workers").mkdir(parents=True)
    (short_path / "kept").mkdir()
    (short_path / "run" / "gone" / "workers").rmdir()
    (short_path / "run" / "worker" / "workers" / "w-1").touch()
    return short_path / "run"


def test_an_engine_that_leaves_clears_up_after_data_folders_that_are_gone(runs: Path) -> None:
    fds = {}
    for name in ("gone", "kept", "runs", "worker"):
        home = runs.parent / name
        home.mkdir(exist_ok=True)
        fds[name] = lock.acquire([runs / name, home], runs / name / "s") or []
        (home / lock.NAME).unlink()
        if name != "kept":
            home.rmdir()
    for name in ("gone", "kept", "worker"):
        for fd in fds[name]:
            os.close(fd)
    leftovers.sweep(runs)
    assert sorted(path.name for path in runs.iterdir()) == ["kept", "runs", "unsigned", "worker"]
    for fd in fds["runs"]:
        os.close(fd)
    leftovers.sweep(runs)
    assert sorted(path.name for path in runs.iterdir()) == ["kept", "unsigned", "worker"]
    leftovers.sweep(runs / "nowhere")
