"""The first steps of an engine's process: it lets go of whoever started it, and has folders and a log."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
from pathlib import Path
from typing import Final

from runpod_flash.errors import ConfigError, EngineUnavailable
from runpod_flash.wire import rundir

LOG_LIMIT: Final = 4 * 1024 * 1024


def let_go() -> None:
    """Lets go of whoever started us: terminal, current folder, and the limits of its shell."""
    os.umask(0o077)
    os.chdir("/")
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing:
        os.close(nothing)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS says "infinity" and does not mean it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_folders(home: Path) -> Path:
    """Makes the data folder and the run folder; the latter."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the data folder {home} cannot be made",
            why=error.strerror,
            fix="set FLASH_HOME to a folder that can be written",
        ) from None
    try:
        return rundir.prepare(home)
    except rundir.RundirError as error:
        raise EngineUnavailable(error.what, why=str(error), fix=error.fix) from None


def log_to(path: Path, *, debug: bool) -> None:
    """Standard output and error go to the log from here on, also those of C code."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    level = logging.DEBUG if debug else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
