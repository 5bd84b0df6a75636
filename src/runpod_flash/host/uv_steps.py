"""The steps of a build that uv does, in a folder of its own: each at first from the cache, then over the network."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uv

from runpod_flash.host.commands import Command, Result
from runpod_flash.host.installer import explain, is_error, python_of, version_in
from runpod_flash.host.mirror import Mirror
from runpod_flash.model.endpoint import OWN_DISTRIBUTIONS
from runpod_flash.wire.messages import EnsureEnv

_OWN: Final[str] = getattr(sys, "_base_executable", None) or sys.executable
"""What this process runs on, without the virtual environment."""
_Ran = Generator[Command, Result | None, Result]


class BuildError(Exception):
    """The environment cannot be built; the message is for the user. `code` as of the error that it becomes."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class UvSteps:
    """What uv does for one order. `variables` are those of uv by now; `say(phase, line)` tells the callers.

    `home` is the folder of all environments, for the words of an error. BuildError where a step fails.
    """

    def __init__(
        self,
        order: EnsureEnv,
        folder: Path,
        home: Path,
        *,
        variables: Callable[[], dict[str, str]],
        say: Callable[[str, str], None],
    ) -> None:
        self._order = order
        self._folder = folder
        self._home = home
        self._variables = variables
        self._say = say

    def interpreter(self) -> Generator[Command, Result | None, str]:
        """The caller's interpreter, or another of the same version if that is gone."""
        if os.access(self._order.interpreter, os.X_OK):
            return self._order.interpreter
        version = python_of(self._order.abi)
        path = _OWN if sysconfig.get_config_var("SOABI") == self._order.abi and os.access(_OWN, os.X_OK) else ""
        if not path:
            found = yield from self._uv("python", "find", "--no-project", version, quiet=True)
            path = "" if found.code else found.out.strip()
        if not path:
            raise BuildError(
                f"Python {version} is not on this machine: {self._order.interpreter} is gone and there is no other. "
                f"Flash itself runs on Python {sys.version_info[0]}.{sys.version_info[1]}"
            )
        self._say("resolve", f"{self._order.interpreter} is gone, using {path}")
        return path

    def resolve(
        self, interpreter: str, requirements: list[str], *, last: bool = True
    ) -> Generator[Command, Result | None, list[str]]:
        """The exact versions, as lines of a lock. Unless it is the `last` try, a failure goes unsaid."""
        if not requirements:
            return []
        (self._folder / "dependencies").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        # Also where another package requires us: every worker has us, and a namesake would shadow us.
        ours = "".join(f"{name} ; python_version < '0'\n" for name in sorted(OWN_DISTRIBUTIONS))
        (self._folder / "ours").write_text(ours, encoding="utf-8")
        overrides = ["ours", *self._order.index.get("UV_OVERRIDE", "").split()]
        result = yield from self._uv(
            "pip", "compile", "dependencies", "--python", interpreter,
            "--no-header", "--no-annotate", "--no-strip-extras",
            *(word for file in overrides for word in ("--overrides", file)), phase="resolve", show=last,
        )  # fmt: skip
        if result.code:
            raise BuildError(explain(result.err, self._home))
        return [line for line in result.out.splitlines() if line and not line.startswith("#")]

    def make(self, interpreter: str) -> Generator[Command, Result | None, str]:
        """An empty virtual environment, relocatable since it gets its name last; its Python's version."""
        result = yield from self._uv(
            "venv", "env", "--python", interpreter, "--relocatable", "--no-project", quiet=True
        )
        if result.code:
            raise BuildError(explain(result.err, self._home))
        version = version_in(self._folder / "env" / "pyvenv.cfg")
        wanted = python_of(self._order.abi)
        if wanted and version.split(".")[:2] != wanted.split(".")[:2]:
            raise BuildError(
                f"{interpreter} is Python {version} by now; the program that calls runs Python {wanted}: "
                "start it anew with the interpreter that is there"
            )
        return version

    def install(self, lock: list[str], *, last: bool = True) -> Generator[Command, Result | None, None]:
        """Fills the environment. Unless it is the `last` try, nothing is built from source."""
        (self._folder / "lock").write_text("\n".join(lock) + "\n", encoding="utf-8")
        install = ["pip", "install", "--python", "env", "--no-deps", "--requirements", "lock"]
        install += [] if last else ["--no-build"]
        result = yield self._command([*install, "--offline"])
        for line in result.err.splitlines() if result and not result.code else ():
            self._say("build", line)
        # A package that was installed in part counts as installed, so what had begun is not begun a second time.
        if result is not None and result.code and not self.has_begun():
            if self._order.mirror and (yield from self._from_mirror(lock)):
                return
            show = self._until_it_fails("build") if last else None
            result = yield self._command(install, show=show)
        assert result is not None
        if result.code:
            raise BuildError(explain(result.err, self._home))

    def has_begun(self) -> bool:
        """Whether something is installed there, perhaps not whole."""
        return any((self._folder / "env").glob("lib/python*/site-packages/*.dist-info"))

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _from_mirror(self, lock: list[str]) -> Generator[Command, Result | None, bool]:
        """Whether it is all there."""
        say = partial(self._say, "build")

        def run(*arguments: str, more: Mapping[str, str] | None = None) -> _Ran:
            result = yield self._command(arguments, more, show=say if more else None)
            assert result is not None
            return result

        mirror = Mirror(self._order.mirror, self._folder, self._variables(), run, say)
        return (yield from mirror.install("env", lock))

    def _uv(self, *arguments: str, phase: str = "build", quiet: bool = False, show: bool = True) -> _Ran:
        """Runs uv, at first from the cache alone; what that says is only shown if it was enough."""
        result = yield self._command([*arguments, "--offline"])
        assert result is not None
        if result.code == 0 or quiet:
            for line in result.err.splitlines() if not quiet else ():
                self._say(phase, line)
            return result
        if show:
            self._say(phase, "not all is in the cache: asking the package index")
        told = self._until_it_fails(phase) if show else None
        result = yield self._command(arguments, show=told)
        assert result is not None
        return result

    def _command(
        self,
        arguments: Sequence[str],
        more: Mapping[str, str] | None = None,
        show: Callable[[str], None] | None = None,
    ) -> Command:
        env = {**self._variables(), **(more or {})}
        return Command([os.fsdecode(uv.find_uv_bin()), *arguments], env, self._folder, show=show)

    def _until_it_fails(self, phase: str) -> Callable[[str], None]:
        """Says what comes up to the reason for a failure: that is the build's error, and told as such."""
        failing = False

        def show(line: str) -> None:
            nonlocal failing
            failing = failing or is_error(line)
            if not failing:
                self._say(phase, line)

        return show
