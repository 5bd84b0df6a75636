"""uv chooses the versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import uv
from packaging.requirements import Requirement

from runpod_flash import installation
from runpod_flash.errors import DependencyError

_NO_SOLUTION: Final = "No solution found"
_NO_NETWORK: Final = re.compile(
    r"network was disabled|dns error|error sending request|failed to lookup|connection refused|timed out", re.IGNORECASE
)
_NOISE: Final = re.compile(r"warning: |Resolved \d|Using (CPython|Python) ", re.IGNORECASE)


class Ran(NamedTuple):
    """How uv ended, and its words."""

    code: int
    out: str
    words: str

    @property
    def no_solution(self) -> bool:
        """Whether the requirements cannot be had together, as opposed to uv having been kept from finding out."""
        return self.code != 0 and _NO_SOLUTION in self.words and not _NO_NETWORK.search(self.words)


class Resolver:
    """Asks uv in the folder of a gallery, whose `[tool.uv]` counts. `python`: the oldest version to resolve for."""

    def __init__(self, root: Path, python: str) -> None:
        self._root = root
        self._python = python

    def compile(self, requirements: Sequence[str], pins: Path | None = None, *, upgrade: bool = False) -> Ran:
        """The versions of all that these requirements need, as the text of a requirements file, for every platform.

        Pins of an earlier run are kept where they still fit, unless `upgrade`.
        """
        words = ["pip", "compile", "-", "--universal", "--python-version", self._python, "--generate-hashes"]
        words += ["--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        words += ["--output-file", str(pins)] if pins is not None else []
        return self._run([*words, *(["--upgrade"] if upgrade else [])], "\n".join(requirements))

    def can_be_had(self, requirements: Sequence[str]) -> bool:
        """Whether there are versions that meet all of these."""
        ran = self.compile(requirements)
        if ran.code and not ran.no_solution:
            raise failure(ran)
        return ran.code == 0

    def lock(self, *, upgrade: bool = False) -> Ran:
        """Writes uv.lock beside the gallery's pyproject.toml."""
        return self._run(["lock", *(["--upgrade"] if upgrade else [])], "")

    def _run(self, words: Sequence[str], told: str) -> Ran:
        # Which Python looks on does not matter; naming one saves uv from asking every one of the machine, for seconds.
        command = [
            os.fsdecode(uv.find_uv_bin()),
            "--no-progress",
            "--color",
            "never",
            *words,
            "--python",
            sys.executable,
        ]
        # An environment that is active here has nothing to do with what is resolved.
        env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        env["UV_PYTHON_DOWNLOADS"] = "never"
        ended = subprocess.run(
            command, input=told, cwd=self._root, env=env, capture_output=True, text=True, encoding="utf-8", check=False
        )
        lines = [line.rstrip() for line in ended.stderr.splitlines() if line.strip() and not _NOISE.match(line)]
        return Ran(ended.returncode, ended.stdout, "\n".join(lines) or "uv ended without a word")


def failure(ran: Ran) -> DependencyError:
    """What to say where uv could not do its work."""
    if _NO_NETWORK.search(ran.words):
        fix = "try again with a network; flash deps consolidate --check needs none"
        return DependencyError(
            "no network, and not everything is in uv's cache; nothing was changed", why=ran.words, fix=fix
        )
    return DependencyError("uv could not resolve the dependencies; nothing was changed", why=ran.words)


def of_flash() -> list[str]:
    """What this package itself needs: it is in the environment of every example."""
    try:
        declared = metadata.requires(installation.OURS) or []
    except metadata.PackageNotFoundError:  # it runs from a folder
        return []
    return [text for text in declared if "extra ==" not in str(Requirement(text).marker or "")]
