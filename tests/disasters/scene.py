"""Where the disasters happen: one data folder, the program beside the test, and who is who among the processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from runpod_flash.cli.connection import connect, connect_running
from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.waiting import until

PROGRAM = Path(__file__).with_name("program.py")
FLASH = (sys.executable, "-c", "from runpod_flash.cli.main import main; main()")
SECONDS = 30.0

Found = TypeVar("Found")


class Scene:
    """An isolated engine and what a test does to it."""

    def __init__(self, engine: IsolatedEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.home = engine.home
        self._programs: list[subprocess.Popen[str]] = []
        self._files = 0

    # ── the program beside the test ──────────────────────────────────────────────────────────────

    def start(self, *arguments: str | Path, script: Path = PROGRAM, **environ: str) -> subprocess.Popen[str]:
        """The program (or another script) in a process group of its own, as a shell starts it."""
        return self._popen([sys.executable, str(script), *map(str, arguments)], environ)

    def run(self, *arguments: str | Path, script: Path = PROGRAM, code: int = 0, **environ: str) -> Ended:
        """The same to its end."""
        return self.end(self.start(*arguments, script=script, **environ), code)

    def flash(self, *arguments: str, code: int = 0, **environ: str) -> Ended:
        """`flash` to its end."""
        return self.end(self._popen([*FLASH, *arguments], environ), code)

    def end(self, program: subprocess.Popen[str], code: int = 0) -> Ended:
        """Waits for a program; it has to end with `code`."""
        out, err = program.communicate(timeout=SECONDS * 2)
        assert program.returncode == code, f"exit code {program.returncode}\n{out}\n{err}\n{self.logs()}"
        return Ended(out, err)

    def _popen(self, command: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            command,
            env={**self.engine.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environ},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._programs.append(program)
        return program

    def close(self) -> None:
        """Ends the programs that a test left."""
        for program in self._programs:
            if program.poll() is None:
                program.kill()
            program.communicate()

    # ── who is who ───────────────────────────────────────────────────────────────────────────────

    @property
    def engine_pid(self) -> int:
        return self._pid_of("runpod_flash.daemon")

    @property
    def host_pid(self) -> int:
        return self._pid_of("runpod_flash.host")

    def zygotes(self) -> list[psutil.Process]:
        """The zygotes, which are not workers although these have the same command line."""
        workers = self.engine.workers()
        return [one for one in self.having("zygote.py") if one.pid not in workers]

    def workers(self) -> list[psutil.Process]:
        """The workers that live."""
        workers = self.engine.workers()
        return [one for one in self.engine.processes() if one.pid in workers]

    def having(self, word: str) -> list[psutil.Process]:
        """The processes whose command line has a word that ends so."""
        found = []
        for one in self.engine.processes():
            with contextlib.suppress(psutil.Error):
                if any(part.endswith(word) for part in one.cmdline()):
                    found.append(one)
        return found

    def _pid_of(self, module: str) -> int:
        return until(lambda: [one.pid for one in self.having(module)])[0]

    def kill(self, *pids: int) -> None:
        """kill -9, and waits until they are gone."""
        processes = [psutil.Process(pid) for pid in pids]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(lives(one) for one in processes))

    def kill_engine(self) -> None:
        """kill -9 of the engine, until the host has brought up the next one."""
        before = self.engine_pid
        self.kill(before)
        until(lambda: self.engine.facts.get("pid") not in (None, before))

    # ── what is on record ────────────────────────────────────────────────────────────────────────

    def job(self, job: str) -> dict[str, Any]:
        """What the engine knows of a job."""
        with connect() as link:
            return link.job(job)

    def jobs(self, **filters: str) -> list[dict[str, Any]]:
        """All jobs, the newest first."""
        with connect() as link:
            return list(link.all("jobs", filters))

    def status(self) -> dict[str, Any]:
        """The engine about itself."""
        with connect() as link:
            return link.status()

    def ended(self, job: str) -> dict[str, Any]:
        """The job, once it has ended."""
        until(lambda: self.job(job)["status"] not in ("IN_QUEUE", "IN_PROGRESS"))
        return self.job(job)

    def status_of_running(self) -> dict[str, Any]:
        """The same, by a version that asks nobody to make room."""
        link = connect_running()
        assert link is not None
        with link:
            return link.status()

    def logs(self, length: int = 3000) -> str:
        """What engine and host wrote, for the message of a test that failed."""
        texts = []
        for name in ("engine.log", "logs/host.log"):
            with contextlib.suppress(OSError):
                texts.append(f"── {name}\n{(self.home / name).read_text()[-length:]}")
        return "\n".join(texts)

    # ── files by which tests and jobs wait for each other ────────────────────────────────────────

    def file(self, name: str) -> Path:
        """A name that no other test of this scene has used."""
        self._files += 1
        return self.folder / f"{self._files}-{name}"


class Ended:
    """What a program left behind."""

    def __init__(self, out: str, err: str) -> None:
        self.out = out
        self.err = err

    @property
    def result(self) -> list[str]:
        """The words of its last line: result, process id, job, status, value."""
        return self.out.splitlines()[-1].split(maxsplit=4)


def written(path: Path, lines: int = 1) -> list[str]:
    """The lines of a file, once it has so many."""

    def found() -> list[str]:
        with contextlib.suppress(OSError):
            text = path.read_text()
            if text.endswith("\n") and text.count("\n") >= lines:
                return text.splitlines()
        return []

    return until(found)


def line_of(program: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert program.stdout is not None
    return program.stdout.readline().strip()


@contextlib.contextmanager
def set_up(folder: Path, home: Path | None = None, **variables: str) -> Iterator[Scene]:
    """A scene; what a test left running is ended, and nothing may be left of the engine."""
    with isolated_engine(home, FLASH_APP="disasters", **variables) as engine:
        scene = Scene(engine, folder)
        try:
            yield scene
        finally:
            scene.close()


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
