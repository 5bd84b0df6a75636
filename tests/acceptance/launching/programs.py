"""Programs that a user might write, and a folder to start them from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

DECLARED: Final = """
from runpod_flash import CpuLiveServerless, remote

FACTOR = 2


class Weight:
    def __init__(self, value):
        self.value = value


def scaled(x):
    return FACTOR * x


@remote(CpuLiveServerless("launching", workersMax=2))
async def answer(weight):
    return Weight(scaled(weight.value))
"""
"""A remote function with what functions use: a helper, a constant and a class of the user's own, in and out."""

ASKED: Final = """
import asyncio


async def main():
    job = await answer(Weight(21))
    assert type(job.unwrap()) is Weight
    print(job.unwrap().value)


asyncio.run(main())
"""


class Programs:
    """A folder for programs, and a way to run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: Mapping[str, str]) -> None:
        """Puts the files where they belong."""
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def python(self, *words: str, text: str = "", **variables: str) -> str:
        """What a run of the interpreter prints: it ends well, without a warning."""
        return self.run([sys.executable, "-W", "error", *words], text=text, **variables)

    def run(self, command: Sequence[str], *, text: str = "", **variables: str) -> str:
        """What a command prints: it ends well, and says nothing that a user would have to understand."""
        done = subprocess.run(
            command,
            input=text,
            cwd=self.folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        assert "Warning" not in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def jobs(self, status: str) -> list[str]:
        """The functions of the jobs in a status."""
        flash = Path(sys.executable).with_name("flash")
        said = subprocess.run([flash, "jobs", "--status", status, "--json"], capture_output=True, check=True).stdout
        return [job["fn"].rpartition(":")[2] for job in json.loads(said)]
