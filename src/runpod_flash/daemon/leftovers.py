"""Run folders of data folders that are gone: an engine that leaves removes those of others, and never its own.

Its own has to stay. Whoever starts the next engine of that data folder may have opened a lock in it a moment ago; were
the file taken away under him, the next one would lock another file of the same name, and both would start an engine.
Nobody starts one for a data folder that is not there. What is left of an engine is two empty files and a folder, in a
place that machines empty by themselves; only those who use many data folders, as tests do, would notice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path

from runpod_flash.daemon import lock
from runpod_flash.host.worker import FOLDER as WORKERS


def sweep(runs: Path) -> None:
    """Removes from the folder of run folders those that no engine will use again."""
    with contextlib.suppress(OSError):
        for folder in list(runs.iterdir()):
            with contextlib.suppress(OSError, ValueError):
                _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    fd = os.open(folder / lock.NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError if an engine has it
        signed = json.loads(os.pread(fd, lock.LENGTH, 0))
        # Workers that outlived all else are ended by the next host of their data folder, by what lies there.
        if not Path(signed["home"]).exists() and not any((folder / WORKERS).glob("*")):
            shutil.rmtree(folder)
    except (KeyError, TypeError):
        return  # signed by an older version
    finally:
        os.close(fd)
