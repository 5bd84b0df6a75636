"""Runs a program in folders of its own and leaves nothing behind: no process, no file.

Engines and clusters detach what they start, so ending a process group is not enough. The nursery stands
between: it is the parent of the program and the one to whom orphans are handed (Linux calls that a
subreaper), so all that the program starts, in whatever session, is below it. When the program has ended,
or the benchmark dies in any way, the nursery ends the rest, waits for each and removes the folders.

    python -m benchmarks.nursery CORE|any PROGRAM ARGUMENT…
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flash-bench"
"""Homes lie here, not in /tmp, which is memory on many machines: a durable queue shall meet the real disk."""

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36
AWAITED: Final = {signal.SIGTERM, signal.SIGCHLD}
"""Blocked and waited for: a handler could cut the clearing-up short."""


class Failed(Exception):
    """A measured program did not give its figures; the message is the last it said."""


def run(
    module: str,
    *arguments: str,
    core: int | None = None,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
    limit_s: float = 300,
) -> Any:
    """Runs `python -m module` in a nursery; returns the JSON that it prints as its last line."""
    place = "any" if core is None else str(core)
    command = [sys.executable, "-m", "benchmarks.nursery", place, python, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as chatter:
        started = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_clean_environment() | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=chatter,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this program alone, which then ends the nursery in order
        )
        with started as nursery:
            try:
                said, _ = nursery.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                raise Failed(f"not done after {limit_s:.0f} s: {_last_words(chatter)}") from None
            finally:
                nursery.terminate()
                nursery.wait()
        if nursery.returncode != 0:
            raise Failed(_last_words(chatter) or f"exit code {nursery.returncode}")
    return json.loads(said.splitlines()[-1])


def _clean_environment() -> dict[str, str]:
    """The caller's variables, but none that would lead to the user's own engine or change its ways."""
    unwanted = ("FLASH_", "RAY_", "CELERY_", "DASK_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


def _last_words(chatter: Any) -> str:
    chatter.seek(0)
    lines = [line.strip() for line in chatter if line.strip()]
    return lines[-1] if lines else ""


def main() -> None:
    """The nursery itself."""
    place, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    CACHE.mkdir(parents=True, exist_ok=True)
    home = tempfile.mkdtemp(prefix="home-", dir=CACHE)
    sockets = tempfile.mkdtemp(prefix="fb-")  # apart and short: the path of a socket has at most 107 bytes
    try:
        if place != "any":
            os.sched_setaffinity(0, {int(place)})
        folders = {"FLASH_HOME": home, "XDG_RUNTIME_DIR": sockets, "BENCH_SCRATCH": sockets}
        code = _wait(os.posix_spawn(command[0], command, os.environ | folders, setsigmask=()))
    finally:
        _end_all()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)
    sys.exit(code if code >= 0 else 128 - code)


def _wait(child: int) -> int:
    """Exit code of the child, or of being told to stop; orphans that end meanwhile are reaped on the way."""
    while signal.sigwait(AWAITED) != signal.SIGTERM:
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            ended, status = found
            if ended == child:
                return os.waitstatus_to_exitcode(status)
    return 128 + signal.SIGTERM


def _end_all() -> None:
    """Again and again until nothing is left, since one of them may just be restarting another."""
    while True:
        for process in psutil.Process().children(recursive=True):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


if __name__ == "__main__":
    main()
