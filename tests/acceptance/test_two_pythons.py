"""Programs of two versions of Python at one engine: each has its functions run by its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from runpod_flash.testing import isolated_engine
from tests.runpod.served import cache

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = """
import json
import sys
from dataclasses import dataclass
from runpod_flash import CpuLiveServerless, remote

@dataclass
class Count:
    number: int
    def next(self):
        return Count(self.number + 1)

@remote(CpuLiveServerless("counts", workersMax=1), max_retries=0)
def counted(count):
    import sys
    return sys.version_info[:2], count.next()

version, count = counted.sync(Count(1)).unwrap()
assert count == Count(2), count
print(json.dumps([sys.version_info[:2], version]))
"""


def others() -> Iterator[Path]:
    """Interpreters of other versions that Flash runs on: on the PATH, or kept beside this one."""
    for minor in (13, 12, 11, 10):
        if minor != sys.version_info[1]:
            name = f"python3.{minor}"
            found = shutil.which(name)
            yield from [Path(found)] if found else []
            yield from Path(sys.base_prefix).parent.glob(f"*/bin/{name}")


def runs(interpreter: Path) -> bool:
    """What is on the PATH may be a signpost to a version that nobody has chosen."""
    asked = [str(interpreter), "-c", "import ensurepip, ssl, sqlite3, venv"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def other() -> Path:
    """The interpreter of an environment with all that Flash needs, of another version than that of this program."""
    base = next(filter(runs, others()), None)
    if base is None:
        pytest.skip("this machine has no other Python that Flash runs on")
    locked = ROOT / "requirements.txt"
    folder = cache() / f"flash-{base.name}"
    python = folder / "bin" / "python"
    with open(f"{folder}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs of tests at once install it once
        complete = folder / "complete"
        if not complete.exists() or complete.read_bytes() != locked.read_bytes():
            shutil.rmtree(folder, ignore_errors=True)
            uv("venv", "--quiet", "--python", str(base), str(folder))
            uv("pip", "install", "--quiet", "--python", str(python), "--requirements", str(locked))
            shutil.copy(locked, complete)
    return python


def uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["ours", "other"])
def test_a_function_runs_on_the_python_of_the_program_that_calls_it(tmp_path: Path, other: Path, first: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    ran = []
    with isolated_engine(PYTHONPATH=str(ROOT / "src")):
        for python in (sys.executable, other) if first == "ours" else (other, sys.executable):
            done = subprocess.run([python, program], capture_output=True, text=True, check=False, env=os.environ)
            assert done.returncode == 0, done.stderr
            caller, worker = json.loads(done.stdout)
            assert caller == worker
            ran.append(caller)
    assert len(ran) == 2
    assert ran[0] != ran[1]
