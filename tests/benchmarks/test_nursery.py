from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks import nursery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks need Linux")

# Leaves a process behind that has a session of its own, as an engine does; tells its id.
DETACHES = '''
import json, os, subprocess
leaves = """
import os, time
if os.fork(): os._exit(0)
os.setsid(); print(os.getpid(), flush=True); time.sleep(600)
"""
started = subprocess.Popen(["python3", "-c", leaves], stdout=subprocess.PIPE, text=True)
print(json.dumps({"pid": int(started.stdout.readline()), "home": os.environ["FLASH_HOME"]}), flush=True)
'''


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A module that leaves a process behind."""
    (tmp_path / "leaves_one_behind.py").write_text(DETACHES)
    return "leaves_one_behind"


def test_what_a_program_left_behind_is_ended_and_its_home_removed(program: str, tmp_path: Path) -> None:
    found = nursery.run(program, variables={"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})

    assert not psutil.pid_exists(found["pid"])
    assert found["home"].startswith(str(tmp_path))
    assert not Path(found["home"]).exists()


def test_a_program_that_fails_says_why_in_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("raise SystemExit('the disk is full')")

    with pytest.raises(nursery.Failed, match="the disk is full"):
        nursery.run("fails", variables={"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})


def test_a_program_that_hangs_is_ended_at_its_limit_with_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        "import sys; sys.stdout = sys.stderr\n" + DETACHES + "import time; time.sleep(600)"
    )

    with pytest.raises(nursery.Failed, match="not done after 2 s") as refused:
        nursery.run("hangs", variables={"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}, limit_s=2)

    last_words = str(refused.value).partition(": ")[2]
    assert not psutil.pid_exists(json.loads(last_words)["pid"])


def test_a_nursery_whose_benchmark_was_killed_still_clears_up(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(DETACHES + "import time; time.sleep(600)")
    folders = {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    benchmark = f"from benchmarks import nursery; nursery.run('waits', variables={folders})"
    running = subprocess.Popen([sys.executable, "-c", benchmark], cwd=nursery.ROOT)
    deadline = time.monotonic() + 20
    while not (below := _below_its_nursery(running.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    os.kill(running.pid, signal.SIGKILL)
    running.wait()

    assert psutil.wait_procs(below, timeout=10)[1] == []


def _below_its_nursery(benchmark: int) -> list[psutil.Process]:
    """The nursery, the program and what it detached; empty until all three are there."""
    below = psutil.Process(benchmark).children(recursive=True)
    return below if len(below) >= 3 else []
