"""An engine with a data folder of its own, ended with all that it started, and looked after to the last file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from runpod_flash.client import background
from runpod_flash.wire import rundir

IDLE_STOP_S: Final = 60
"""An engine whose test was killed does not stay for longer than this."""
PATIENCE_S: Final = 20.0
_PAUSE_S: Final = 0.01


class LeftBehind(AssertionError):
    """Something of an engine is still there although the engine has ended."""


class IsolatedEngine:
    """One data folder, and whatever runs for it. The engine itself starts with the first call, as always."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def environ(self) -> dict[str, str]:
        """The variables for a program in a process of its own that shall use this engine."""
        return dict(os.environ)

    @property
    def run_folder(self) -> Path:
        """Where its socket and the scratch folders of its workers are."""
        return rundir.rundir(self.home)

    @property
    def facts(self) -> dict[str, Any]:
        """What the engine says about itself while it runs: `pid`, `socket`, `version`; {} if there is none."""
        try:
            found: dict[str, Any] = json.loads((self.home / rundir.ENGINE_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def processes(self) -> list[psutil.Process]:
        """Engine, host, zygotes, workers, builds, and what workers have started, as long as they live."""
        folders = tuple(os.path.realpath(folder) for folder in (self.home, self.run_folder))
        return [one for one in psutil.process_iter() if one.pid != os.getpid() and _belongs(one, folders)]

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        return sorted(int(text.split()[0]) for text in _contents(self.run_folder.glob("workers/w*/pid")))

    def stop(self) -> None:
        """Ends the engine, its host and its workers, without a grace for what runs; LeftBehind if something stays."""
        signals: Counter[int] = Counter()
        before = self.processes()
        end = time.monotonic() + PATIENCE_S
        try:
            while (left := self._remains()) and time.monotonic() < end:
                self._tell_engine(signals)
                time.sleep(_PAUSE_S)
        finally:
            for one in (*before, *self.processes()):
                with contextlib.suppress(psutil.Error):
                    one.kill()
        if left:
            raise LeftBehind(f"of the engine of {self.home} there is left:\n" + "\n".join(f"  {one}" for one in left))

    def _tell_engine(self, signals: Counter[int]) -> None:
        """Two signals are enough: the first asks the engine to leave, the second ends its patience.

        There may be several in a row: a host that finds itself alone starts the next one.
        """
        pid = self.facts.get("pid", 0)
        for one in self.processes():
            if one.pid == pid and signals[pid] < 2:
                signals[pid] += 1
                with contextlib.suppress(psutil.Error):
                    one.terminate()

    def _remains(self) -> list[str]:
        """What is there, in words."""
        found = [f"process {one.pid}: {_title(one)}" for one in self.processes()]
        if not found and self.facts:
            return []  # the engine was killed and had no time to remove anything: the next one does
        folder = self.run_folder
        if (folder / rundir.SOCKET).exists():
            found.append(f"socket {folder / rundir.SOCKET}")
        with contextlib.suppress(OSError):
            found += [f"scratch folder {path}" for path in (folder / "workers").iterdir()]
        return found


@contextlib.contextmanager
def isolated_engine(home: Path | None = None, **variables: str) -> Iterator[IsolatedEngine]:
    """An engine for the calls made in this block, also by programs that are started in it.

    Its data folder is a temporary one unless `home` names one, which is then kept. Variables of Flash that the
    surroundings set do not count here; `variables` do, as in `isolated_engine(FLASH_DURABILITY="power")`.
    """
    temporary = None if home else Path(tempfile.mkdtemp(prefix="flash-test-"))
    folder = home or Path(os.path.realpath(str(temporary))) / "home"
    engine = IsolatedEngine(folder)
    settings = {"FLASH_HOME": str(folder), "FLASH_IDLE_STOP": str(IDLE_STOP_S), **variables}
    background.stop()  # blocking calls have a link of their own, which may still be that of another engine
    with _environment(settings), contextlib.ExitStack() as afterwards:
        if temporary:
            afterwards.callback(shutil.rmtree, temporary, ignore_errors=True)
        afterwards.callback(shutil.rmtree, engine.run_folder, ignore_errors=True)
        afterwards.callback(engine.stop)
        afterwards.callback(background.stop)
        yield engine


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """The variables of Flash are these and no others; then they are as before."""
    before = {name: value for name, value in os.environ.items() if name.startswith("FLASH_") or name in settings}
    for name in before:
        del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("FLASH_") or name in settings]:
            del os.environ[name]
        os.environ.update(before)


def _belongs(process: psutil.Process, folders: tuple[str, ...]) -> bool:
    """Whether a process names one of the folders, stands in one, or keeps its temporary files in one."""
    for look in (_command, _place, _temporary_files):
        with contextlib.suppress(psutil.Error, OSError):
            if any(_within(word, folder) for word in look(process) for folder in folders):
                return process.status() != psutil.STATUS_ZOMBIE
    return False


def _command(process: psutil.Process) -> list[str]:
    return process.cmdline()


def _place(process: psutil.Process) -> list[str]:
    return [process.cwd()]


def _temporary_files(process: psutil.Process) -> list[str]:
    return [process.environ().get("TMPDIR", "")]


def _within(word: str, folder: str) -> bool:
    return word == folder or word.startswith(f"{folder}{os.sep}")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "ended just now"


def _contents(paths: Iterator[Path]) -> Iterator[str]:
    for path in paths:
        with contextlib.suppress(OSError):
            if text := path.read_text():
                yield text
