"""Other programs as steps: a generator says what to run and gets back how that went.

So a sequence of programs (resolve, make, install) reads from top to bottom, although the host never waits.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from runpod_flash.host.lines import Lines
from runpod_flash.host.loop import Loop, Timer
from runpod_flash.host.processes import Children, Exit, kill_session, kill_tree, signal_name, spawn

_READ = 64 * 1024
_REST_READS = 64


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run; `show` gets the lines of its stderr as they come."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    nice: int = 0
    show: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended, and what it printed. `code` is negative for a signal."""

    code: int
    out: str
    err: str


Steps: TypeAlias = Generator["Command | float", "Result | None", None]
"""Yields commands, or seconds to wait for (answered with None)."""


@dataclass(slots=True)
class _Running:
    command: Command
    pid: int
    pipes: dict[int, bytearray] = field(default_factory=dict)
    lines: Lines = field(default_factory=Lines)


class Runner:
    """Drives one generator to its end, or to `cancel`."""

    def __init__(self, loop: Loop, children: Children, steps: Steps) -> None:
        self._loop = loop
        self._children = children
        self._steps = steps
        self._running: _Running | None = None
        self._pause: Timer | None = None
        self._over = False
        self._killed: _Running | None = None  # and yet to be reaped
        self._next(None)

    @property
    def over(self) -> bool:
        """Whether the generator has come to its end, or was cancelled."""
        return self._over

    @property
    def gone(self) -> bool:
        """Whether nothing of it runs any more, not even for the moment that a process takes to die."""
        return self._over and self._killed is None

    def cancel(self) -> None:
        """Kills what runs; the generator sees GeneratorExit. Idempotent."""
        if self._over:
            return
        self._over = True
        if self._pause:
            self._pause.cancel()
        if self._running:
            kill_tree(self._running.pid)
            self._close(self._running)
            self._killed, self._running = self._running, None
        self._steps.close()

    def _next(self, result: Result | None) -> None:
        if self._over:
            return
        try:
            step = self._steps.send(result)
        except StopIteration:
            self._over = True
            return
        if isinstance(step, Command):
            self._run(step)
        else:
            self._pause = self._loop.after(step, lambda: self._next(None))

    def _run(self, command: Command) -> None:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        try:
            pid = spawn(
                command.argv,
                env=command.env,
                cwd=str(command.cwd),
                stdin=subprocess.DEVNULL,
                stdout=out_end,
                stderr=err_end,
                dies_with_host=True,
                nice=command.nice,
            )
        except OSError as error:
            os.close(out)
            os.close(err)
            failed = Result(127, "", f"error: {command.argv[0]} cannot be run: {error.strerror}")
            self._loop.after(0, lambda: self._next(failed))
            return
        finally:
            os.close(out_end)
            os.close(err_end)
        running = self._running = _Running(command, pid, {out: bytearray(), err: bytearray()})
        for pipe in running.pipes:
            os.set_blocking(pipe, False)
            self._loop.watch(pipe, partial(self._read, running, pipe))
        self._children.watch(pid, lambda end: self._ended(running, end))

    def _read(self, running: _Running, pipe: int) -> bool:
        try:
            data = os.read(pipe, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._loop.unwatch(pipe)
            return False
        running.pipes[pipe] += data
        if running.command.show and pipe == list(running.pipes)[1]:
            for line in running.lines.feed(data).decode("utf-8", "replace").splitlines():
                running.command.show(line)
        return True

    def _ended(self, running: _Running, end: Exit) -> None:
        if self._running is not running:
            self._killed = None
            return
        # Not until the pipes end: whatever the program left behind may hold them open.
        for pipe in running.pipes:
            for _ in range(_REST_READS):
                if not self._read(running, pipe):
                    break
        out, err = (bytes(data).decode("utf-8", "replace") for data in running.pipes.values())
        self._close(running)
        self._running = None
        if end.signal is not None:
            kill_session(end.pid)  # a compiler whose installer was killed would go on for nobody
            err += f"error: {Path(running.command.argv[0]).name} was killed by {signal_name(end.signal)}\n"
        self._next(Result(-(end.signal or 0) if end.code is None else end.code, out, err))

    def _close(self, running: _Running) -> None:
        for pipe in running.pipes:
            self._loop.unwatch(pipe)
            with suppress(OSError):
                os.close(pipe)
