"""`flash` in a process of its own, in a pipe or on a terminal, beside a stand-in for the engine."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.standin import StandIn

PROGRAM = (sys.executable, "-c", "from runpod_flash.cli.main import main; main()")


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class Flash:
    """Runs `flash` with a data folder of its own and nothing of the surroundings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home.parent),
            "FLASH_HOME": str(home),
            "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "TZ": "UTC",
        }

    def __call__(self, *args: str, **environ: str) -> Ended:
        """Runs to the end, output in pipes."""
        with self.start(*args, **environ) as running:
            out, err = running.communicate(timeout=60)
        return Ended(running.returncode, out, err)

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        """Runs beside the test."""
        return subprocess.Popen(
            [*PROGRAM, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.environ | environ,
            cwd=self.home.parent,
        )

    def on_terminal(self, *args: str, **environ: str) -> str:
        """What a person sees who runs it in a terminal of 120 columns."""
        ours, theirs = pty.openpty()
        environ = {**self.environ, "TERM": "xterm-256color", "COLUMNS": "120", **environ}
        with subprocess.Popen(
            [*PROGRAM, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=self.home.parent
        ):
            os.close(theirs)
            seen = b""
            try:
                while data := os.read(ours, 65536):
                    seen += data
            except OSError:  # how a terminal says that its last program has ended
                pass
            os.close(ours)
        return seen.decode().replace("\r\n", "\n")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, and a short folder for the socket that belongs to it."""
    run = tmp_path / "run"
    if len(os.fsencode(run)) > 60:
        run = Path("/tmp")
    else:
        run.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def flash(home: Path) -> Flash:
    """The command line, with nothing running behind it."""
    return Flash(home)


@pytest.fixture
def engine(home: Path) -> Iterator[StandIn]:
    """An engine that stands in for the real one."""
    standing = StandIn(home)
    yield standing
    standing.close()
