"""What a killed host leaves in its folder, when no other host follows it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runpod_flash.host import strays
from runpod_flash.host.processes import look_up
from runpod_flash.host.worker import FOLDER, PID

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process table is read from /proc")


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def scratch_of(rundir: Path, pid: int) -> Path:
    row = look_up(pid)
    assert row is not None
    scratch = rundir / FOLDER / "w1"
    scratch.mkdir(parents=True)
    (scratch / PID).write_text(f"{pid} {row.started}")
    return scratch


def test_a_worker_that_is_still_ending_is_waited_for(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    scratch = scratch_of(tmp_path, sleeper.pid)
    threading.Timer(0.05, sleeper.kill).start()
    strays.bury(tmp_path, 30)
    assert not scratch.exists()
    sleeper.wait()


def test_a_worker_that_nobody_has_waited_for_counts_as_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    scratch = scratch_of(tmp_path, sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    strays.bury(tmp_path, 0)
    assert not scratch.exists()
    sleeper.wait()


def test_a_worker_that_lives_on_keeps_its_folder(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    scratch = scratch_of(tmp_path, sleeper.pid)
    strays.bury(tmp_path, 0)
    assert scratch.exists()
    sleeper.kill()
    sleeper.wait()
