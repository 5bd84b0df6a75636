"""Environments on demand: resolved and built with uv, once however many ask, offline first."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uv

from runpod_flash.host.commands import Command, Result, Runner, Steps
from runpod_flash.host.environments import SIZE, Environments, Facts, Request, environment_id, refusal
from runpod_flash.host.installer import explain, is_error, python_of, uv_environment, version_in
from runpod_flash.host.loop import Loop
from runpod_flash.host.mirror import SYSTEM_DOWNLOADS, Mirror, at_once
from runpod_flash.host.prefixes import Prefixes
from runpod_flash.host.processes import Children, spawn
from runpod_flash.host.system import SystemPackageFailure, SystemPackages
from runpod_flash.model.endpoint import OWN_DISTRIBUTIONS, normalise_requirements, without_credentials
from runpod_flash.wire.messages import EnsureEnv, EnvState

_LOCK_RETRY_S = 0.2
_LOOK_S = 0.02
_COMPILE_AFTER_S = 2.0
_LINES_KEPT = 500
_Ran = Generator[Command, Result | None, Result]


class BuildError(Exception):
    """The environment cannot be built; the message is for the user. `code` as of the error that it becomes."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Build:
    order: EnsureEnv
    started: float = field(default_factory=time.monotonic)
    listeners: list[int] = field(default_factory=list)  # streams of the engine
    said: list[EnvState] = field(default_factory=list)
    runner: Runner | None = None
    prefix: str = ""  # its system packages, once they are there
    # What the steps have come to so far.
    interpreter: str = ""
    lock: list[str] | None = None
    python: str = ""  # of the environment in its folder
    installed: bool = False
    bug: Exception | None = None  # of what ran beside them


class Builder:
    """Answers ENSURE_ENV. `send(state, stream, last)` reaches the engine."""

    def __init__(
        self,
        environments: Environments,
        prefixes: Prefixes,
        loop: Loop,
        children: Children,
        *,
        send: Callable[[EnvState, int, bool], None],
        ready: Callable[[Path, EnsureEnv], None],
        note: Callable[[str], None],
    ) -> None:
        self._environments = environments
        self._prefixes = prefixes
        self._system = SystemPackages(prefixes)
        self._loop = loop
        self._children = children
        self._send = send
        self._ready = ready
        self._note = note
        self._builds: dict[str, _Build] = {}
        self._finishing: list[Runner] = []  # builds that are done, but for what is done at leisure

    def ensure(self, order: EnsureEnv, stream: int) -> None:
        """Builds unless it is there or being built; then that build answers this one too."""
        if build := self._builds.get(order.env):
            build.listeners.append(stream)
            for said in build.said:
                self._send(said, stream, False)
            return
        # What the machine has of system packages can change, so that is looked at again.
        if not order.system and (state := self._known(order.env)) is not None:
            self._send(state, stream, True)
            self._ready(Path(state.path), order)
            return
        build = self._builds[order.env] = _Build(order, listeners=[stream])
        runner = Runner(self._loop, self._children, self._guarded(build))
        if order.env in self._builds:
            build.runner = runner

    def cancel(self, key: str) -> None:
        """Nobody waits for that build any more."""
        if (build := self._builds.pop(key, None)) and build.runner:
            build.runner.cancel()

    def forget_streams(self) -> None:
        """The engine is gone: its streams mean nothing; the builds go on."""
        for build in self._builds.values():
            build.listeners.clear()

    def close(self) -> None:
        """Ends all builds; `gone` says when nothing of them runs any more."""
        self._finishing += [build.runner for build in self._builds.values() if build.runner]
        self._builds.clear()
        for runner in self._finishing:
            runner.cancel()

    @property
    def gone(self) -> bool:
        """Whether no program of a build runs."""
        return not self._builds and all(runner.gone for runner in self._finishing)

    def remove(self, path: Path) -> None:
        """Deletes a folder, in a process of its own: large ones take seconds."""
        with suppress(OSError):
            pid = spawn(["rm", "-rf", "--", str(path)], nice=10)
            self._children.watch(pid, lambda _end: None)

    @property
    def building(self) -> int:
        """How many builds run."""
        return len(self._builds)

    # ── the steps of a build ─────────────────────────────────────────────────────────────────────

    def _guarded(self, build: _Build) -> Steps:
        """A build with its end, whichever it is."""
        order = build.order
        folder: Path | None = None
        lock: int | None = None
        try:
            while (lock := self._environments.lock(order.env)) is None:
                yield _LOCK_RETRY_S  # a host that shares the folder builds it
            if order.system or self._known(order.env) is None:
                folder = self._environments.new_folder()
                yield from self._steps(build, folder)
            state = self._known(order.env)
            if state is None:
                raise BuildError("it was removed while it was being built; the next call tries again")
            self._end(build, state)
            self._ready(Path(state.path), order)
            if folder:
                self._loop.after(_COMPILE_AFTER_S, lambda: self._compile(Path(state.path)))
        except BuildError as error:
            self._fail(build, str(error), error.code)
        except OSError as error:
            self._fail(build, f"{error.strerror}: {error.filename or self._environments.folder}")
        except Exception as error:
            # Whatever it is: somebody waits for an answer.
            self._fail(build, f"a bug of Flash's host: {error!r}")
            raise
        finally:
            if folder:
                self.remove(folder)
            if lock is not None:
                os.close(lock)

    def _steps(self, build: _Build, folder: Path) -> Steps:
        order = build.order
        requirements = list(normalise_requirements(order.requirements))
        if why := refusal(requirements):
            raise BuildError(why)
        request = self._environments.request(order.env)
        if order.accelerate and request is None:
            self._say(build, "resolve", "accelerated: more downloads at once" + _also(order))
        if order.accelerate and order.system and requirements and request is None:
            yield from self._beside_one_another(build, folder, requirements)
        else:
            yield from self._provide_system(build, folder)
        interpreter = build.interpreter or (yield from self._interpreter(build, folder))
        if request is None or order.system:
            lock = request.lock if request else build.lock
            if lock is None:
                lock = yield from self._resolve(build, folder, interpreter, requirements)
            name = environment_id(order.abi, order.interpreter, lock, build.prefix)
            request = Request(id=name, lock=lock, requirements=requirements)
        if self._environments.facts(request.id) is None:
            python = build.python or (yield from self._make(build, folder, interpreter))
            if request.lock and not build.installed:
                yield from self._install(build, folder, request.lock)
            facts = Facts(
                id=request.id,
                requirements=requirements,
                lock=request.lock,
                interpreter=interpreter,
                python=python,
                created_at_ms=time.time_ns() // 1_000_000,
                prefix=build.prefix,
            )
            self._environments.publish(folder / "env", facts)
        self._environments.remember(order.env, request)

    def _beside_one_another(self, build: _Build, folder: Path, requirements: list[str]) -> Steps:
        """System packages, and meanwhile those of Python, as far as they can be had without building any."""
        beside = Runner(self._loop, self._children, self._ahead(build, folder, requirements))
        try:
            yield from self._provide_system(build, folder)
            while not beside.over:
                yield _LOOK_S
        finally:
            beside.cancel()
        if build.bug is not None:
            raise build.bug

    def _ahead(self, build: _Build, folder: Path, requirements: list[str]) -> Steps:
        """What fails here may need the system packages, and is done again when they are there."""
        try:
            build.interpreter = yield from self._interpreter(build, folder)
            build.lock = yield from self._resolve(build, folder, build.interpreter, requirements, last=False)
            build.python = yield from self._make(build, folder, build.interpreter)
            yield from self._install(build, folder, build.lock, last=False)
            build.installed = True
        except (BuildError, OSError) as error:
            build.bug = error if _has_begun(folder) else None
        except Exception as bug:  # noqa: BLE001 - raised where the build is waited for
            build.bug = bug

    def _provide_system(self, build: _Build, folder: Path) -> Steps:
        order = build.order
        at_a_time = SYSTEM_DOWNLOADS if order.accelerate else 1
        try:
            build.prefix = yield from self._system.provide(
                order.system, order.variables, folder, lambda line: self._say(build, "resolve", line), at_a_time
            )
        except SystemPackageFailure as failure:
            raise BuildError(str(failure), "system_package")

    def _interpreter(self, build: _Build, folder: Path) -> Generator[Command, Result | None, str]:
        """The caller's interpreter, or another of the same version if that is gone."""
        order = build.order
        if os.access(order.interpreter, os.X_OK):
            return order.interpreter
        version = python_of(order.abi)
        found = yield from self._uv(build, folder, "python", "find", "--no-project", version, quiet=True)
        path = found.out.strip()
        if found.code or not path:
            raise BuildError(
                f"Python {version} is not on this machine: {order.interpreter} is gone and there is no other. "
                f"Flash itself runs on Python {sys.version_info[0]}.{sys.version_info[1]}"
            )
        self._say(build, "resolve", f"{order.interpreter} is gone, using {path}")
        return path

    def _resolve(
        self, build: _Build, folder: Path, interpreter: str, requirements: list[str], *, last: bool = True
    ) -> Generator[Command, Result | None, list[str]]:
        if not requirements:
            return []
        (folder / "dependencies").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        # Also where another package requires us: every worker has us, and a namesake would shadow us.
        ours = "".join(f"{name} ; python_version < '0'\n" for name in sorted(OWN_DISTRIBUTIONS))
        (folder / "ours").write_text(ours, encoding="utf-8")
        overrides = ["ours", *build.order.index.get("UV_OVERRIDE", "").split()]
        result = yield from self._uv(
            build, folder, "pip", "compile", "dependencies", "--python", interpreter,
            "--no-header", "--no-annotate", "--no-strip-extras",
            *(word for file in overrides for word in ("--overrides", file)), phase="resolve", show=last,
        )  # fmt: skip
        if result.code:
            raise BuildError(explain(result.err, self._environments.folder))
        return [line for line in result.out.splitlines() if line and not line.startswith("#")]

    def _make(self, build: _Build, folder: Path, interpreter: str) -> Generator[Command, Result | None, str]:
        """An empty virtual environment, relocatable since it gets its name last; its Python's version."""
        result = yield from self._uv(
            build, folder, "venv", "env", "--python", interpreter, "--relocatable", "--no-project", quiet=True
        )
        if result.code:
            raise BuildError(explain(result.err, self._environments.folder))
        version = version_in(folder / "env" / "pyvenv.cfg")
        wanted = python_of(build.order.abi)
        if wanted and version.split(".")[:2] != wanted.split(".")[:2]:
            raise BuildError(
                f"{interpreter} is Python {version} by now; the program that calls runs Python {wanted}: "
                "start it anew with the interpreter that is there"
            )
        return version

    def _install(
        self, build: _Build, folder: Path, lock: list[str], *, last: bool = True
    ) -> Generator[Command, Result | None, None]:
        """Unless it is the last try, nothing is built from source."""
        (folder / "lock").write_text("\n".join(lock) + "\n", encoding="utf-8")
        install = ["pip", "install", "--python", "env", "--no-deps", "--requirements", "lock"]
        install += [] if last else ["--no-build"]
        result = yield self._command(build, folder, [*install, "--offline"])
        for line in result.err.splitlines() if result and not result.code else ():
            self._say(build, "build", line)
        # A package that was installed in part counts as installed, so what had begun is not begun a second time.
        if result is not None and result.code and not _has_begun(folder):
            if build.order.mirror and (yield from self._from_mirror(build, folder, lock)):
                return
            show = self._until_it_fails(build, "build") if last else None
            result = yield self._command(build, folder, install, show=show)
        assert result is not None
        if result.code:
            raise BuildError(explain(result.err, self._environments.folder))

    def _from_mirror(self, build: _Build, folder: Path, lock: list[str]) -> Generator[Command, Result | None, bool]:
        """Whether it is all there."""
        say = partial(self._say, build, "build")

        def run(*arguments: str, more: Mapping[str, str] | None = None) -> _Ran:
            result = yield self._command(build, folder, arguments, more, show=say if more else None)
            assert result is not None
            return result

        mirror = Mirror(build.order.mirror, folder, self._variables(build), run, say)
        return (yield from mirror.install("env", lock))

    def _uv(
        self, build: _Build, folder: Path, *arguments: str, phase: str = "build", quiet: bool = False, show: bool = True
    ) -> _Ran:
        """Runs uv, at first from the cache alone; what that says is only shown if it was enough."""
        result = yield self._command(build, folder, [*arguments, "--offline"])
        assert result is not None
        if result.code == 0 or quiet:
            for line in result.err.splitlines() if not quiet else ():
                self._say(build, phase, line)
            return result
        if show:
            self._say(build, phase, "not all is in the cache: asking the package index")
        told = self._until_it_fails(build, phase) if show else None
        result = yield self._command(build, folder, arguments, show=told)
        assert result is not None
        return result

    def _command(
        self,
        build: _Build,
        folder: Path,
        arguments: Sequence[str],
        more: Mapping[str, str] | None = None,
        show: Callable[[str], None] | None = None,
    ) -> Command:
        env = {**self._variables(build), **(more or {})}
        return Command([os.fsdecode(uv.find_uv_bin()), *arguments], env, folder, show=show)

    def _variables(self, build: _Build) -> dict[str, str]:
        order = build.order
        faster = at_once() if order.accelerate else {}
        env = uv_environment({**faster, **order.variables, **order.index}, self._environments.folder)
        return self._prefixes.with_variables(build.prefix, env)

    # ── what is said ─────────────────────────────────────────────────────────────────────────────

    def _known(self, key: str) -> EnvState | None:
        request = self._environments.request(key)
        if request is None or self._environments.facts(request.id) is None:
            return None
        path = self._environments.path(request.id)
        size = self._environments.size(request.id)
        return EnvState(env=key, phase="ready", path=str(path), lock=request.id, size=size)

    def _say(self, build: _Build, phase: str, line: str) -> None:
        state = EnvState(env=build.order.env, phase=phase, line=line)
        if len(build.said) < _LINES_KEPT:
            build.said.append(state)
        for stream in build.listeners:
            self._send(state, stream, False)

    def _until_it_fails(self, build: _Build, phase: str) -> Callable[[str], None]:
        """Says what comes up to the reason for a failure: that is the build's error, and told as such."""
        failing = False

        def show(line: str) -> None:
            nonlocal failing
            failing = failing or is_error(line)
            if not failing:
                self._say(build, phase, line)

        return show

    def _fail(self, build: _Build, error: str, code: str = "") -> None:
        self._end(build, EnvState(env=build.order.env, phase="failed", error=error, code=code))

    def _end(self, build: _Build, state: EnvState) -> None:
        state.ms = round((time.monotonic() - build.started) * 1000)
        self._builds.pop(state.env, None)
        self._note(f"environment {state.lock or state.env}: {state.phase} after {state.ms} ms")
        for stream in build.listeners:
            self._send(state, stream, True)

    def _compile(self, path: Path) -> None:
        """Bytecode for the next workers and the size for people: later, and only with time nobody wants."""
        self._finishing = [runner for runner in self._finishing if not runner.gone]
        self._finishing.append(Runner(self._loop, self._children, _finishing(path)))


def _finishing(path: Path) -> Steps:
    env = {"PATH": os.defpath}
    yield Command([str(path / "bin" / "python"), "-m", "compileall", "-q", "lib"], env, path, nice=19)
    measured = yield Command(["du", "-sk", "."], env, path, nice=19)
    kilobytes = measured.out.split()[0] if measured and measured.out else ""
    if kilobytes.isdigit():
        with suppress(OSError):
            (path / SIZE).write_text(str(int(kilobytes) * 1024))


def _has_begun(folder: Path) -> bool:
    """Whether something is installed there, perhaps not whole."""
    return any((folder / "env").glob("lib/python*/site-packages/*.dist-info"))


def _also(order: EnsureEnv) -> str:
    """What else is done to be faster."""
    mirror = f", from {without_credentials(order.mirror)} first" if order.mirror else ""
    beside = ", system packages and those of Python at the same time" if order.system and order.requirements else ""
    return mirror + beside
