"""Environments on demand: resolved and built with uv, once however many ask, offline first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from runpod_flash.host.commands import Command, Runner, Steps
from runpod_flash.host.environments import SIZE, Environments, Facts, Request, environment_id, refusal
from runpod_flash.host.installer import uv_environment
from runpod_flash.host.loop import Loop
from runpod_flash.host.mirror import SYSTEM_DOWNLOADS, at_once
from runpod_flash.host.prefixes import Prefixes
from runpod_flash.host.processes import Children, spawn
from runpod_flash.host.system import SystemPackageFailure, SystemPackages
from runpod_flash.host.uv_steps import BuildError, UvSteps
from runpod_flash.model.endpoint import normalise_requirements, without_credentials
from runpod_flash.wire.messages import EnsureEnv, EnvState

_LOCK_RETRY_S = 0.2
_LOOK_S = 0.02
_COMPILE_AFTER_S = 2.0
_LINES_KEPT = 500


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
        uv = self._uv_steps(build, folder)
        request = self._environments.request(order.env)
        if order.accelerate and request is None:
            self._say(build, "resolve", "accelerated: more downloads at once" + _also(order))
        if order.accelerate and order.system and requirements and request is None:
            yield from self._beside_one_another(build, folder, uv, requirements)
        else:
            yield from self._provide_system(build, folder)
        interpreter = build.interpreter or (yield from uv.interpreter())
        if request is None or order.system:
            lock = request.lock if request else build.lock
            if lock is None:
                lock = yield from uv.resolve(interpreter, requirements)
            name = environment_id(order.abi, order.interpreter, lock, build.prefix)
            request = Request(id=name, lock=lock, requirements=requirements)
        if self._environments.facts(request.id) is None:
            python = build.python or (yield from uv.make(interpreter))
            if request.lock and not build.installed:
                yield from uv.install(request.lock)
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

    def _beside_one_another(self, build: _Build, folder: Path, uv: UvSteps, requirements: list[str]) -> Steps:
        """System packages, and meanwhile those of Python, as far as they can be had without building any."""
        beside = Runner(self._loop, self._children, _ahead(build, uv, requirements))
        try:
            yield from self._provide_system(build, folder)
            while not beside.over:
                yield _LOOK_S
        finally:
            beside.cancel()
        if build.bug is not None:
            raise build.bug

    def _provide_system(self, build: _Build, folder: Path) -> Steps:
        order = build.order
        at_a_time = SYSTEM_DOWNLOADS if order.accelerate else 1
        try:
            build.prefix = yield from self._system.provide(
                order.system, order.variables, folder, lambda line: self._say(build, "resolve", line), at_a_time
            )
        except SystemPackageFailure as failure:
            raise BuildError(str(failure), "system_package")

    def _uv_steps(self, build: _Build, folder: Path) -> UvSteps:
        order = build.order

        def variables() -> dict[str, str]:
            faster = at_once() if order.accelerate else {}
            env = uv_environment({**faster, **order.variables, **order.index}, self._environments.folder)
            return self._prefixes.with_variables(build.prefix, env)

        return UvSteps(order, folder, self._environments.folder, variables=variables, say=partial(self._say, build))

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


def _ahead(build: _Build, uv: UvSteps, requirements: list[str]) -> Steps:
    """What fails here may need the system packages, and is done again when they are there."""
    try:
        build.interpreter = yield from uv.interpreter()
        build.lock = yield from uv.resolve(build.interpreter, requirements, last=False)
        build.python = yield from uv.make(build.interpreter)
        yield from uv.install(build.lock, last=False)
        build.installed = True
    except (BuildError, OSError) as error:
        build.bug = error if uv.has_begun() else None
    except Exception as bug:  # noqa: BLE001 - raised where the build is waited for
        build.bug = bug


def _finishing(path: Path) -> Steps:
    env = {"PATH": os.defpath}
    # The tests of numpy, pandas or scipy are half of what they bring, and nobody imports them.
    skip = ["-x", "/tests/"]
    yield Command([str(path / "bin" / "python"), "-m", "compileall", "-q", *skip, "lib"], env, path, nice=19)
    measured = yield Command(["du", "-sk", "."], env, path, nice=19)
    kilobytes = measured.out.split()[0] if measured and measured.out else ""
    if kilobytes.isdigit():
        with suppress(OSError):
            (path / SIZE).write_text(str(int(kilobytes) * 1024))


def _also(order: EnsureEnv) -> str:
    """What else is done to be faster."""
    mirror = f", from {without_credentials(order.mirror)} first" if order.mirror else ""
    beside = ", system packages and those of Python at the same time" if order.system and order.requirements else ""
    return mirror + beside
