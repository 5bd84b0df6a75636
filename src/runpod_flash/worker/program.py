"""A new process becomes a program of the user's own, in place of a worker of ours.

It keeps what was arranged for it as for any worker: output, the tie to its host, processors, volumes. Everything of
ours ends here: the program finds its interpreter, its variables and a working folder, and no descriptor but its output.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any, Final, NoReturn

NOT_STARTED: Final = 127
"""Exit code where there is no such program, as shells have it."""
_MOST_LINKS: Final = 4096


def become(message: dict[str, Any], descriptors: Iterable[int]) -> NoReturn:
    """Runs `message["program"]` in this process. `descriptors` are ours, and end with us."""
    variables: dict[str, str] = message["variables"]
    command: list[str] = message["program"]["command"]
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(_working_folder(message["scratch"], message["program"]["folder"]))
    _default_signals()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(message["oom_score"]))
    try:
        os.execvpe(command[0], command, variables)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode(errors="replace"))
        os._exit(NOT_STARTED)


def _working_folder(scratch: str, folder: str) -> str:
    """Each worker has one of its own, in which what lies beside the program is found as well.

    Programs for containers open their files by relative paths; and what one worker writes there, another must not read.
    """
    files = os.path.join(scratch, "files")
    os.makedirs(files, mode=0o700, exist_ok=True)
    furnish(files, folder)
    return files


def furnish(files: str, folder: str) -> None:
    """Puts links to what lies in `folder` into a working folder."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder))[:_MOST_LINKS]:
            if not name.startswith("."):
                with contextlib.suppress(FileExistsError):
                    os.symlink(os.path.join(folder, name), os.path.join(files, name))


def _default_signals() -> None:
    """Handlers end with `exec`, ignored signals and masks do not."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
