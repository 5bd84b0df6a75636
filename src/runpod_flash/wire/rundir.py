"""Where the engine of a data folder listens: a short private folder, because socket paths have about 100 bytes.

`<base>/flash-<uid>/<12 hex digits of the data folder's real path>/`, where base is XDG_RUNTIME_DIR if that is the
user's own, else /tmp. Both folders are the user's alone, which is looked at before every use: /tmp belongs to
everybody, and whoever made the folder first could otherwise read our frames. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

SOCKET = "s"
START_LOCK = "start.lock"
ENGINE_FILE = "engine.json"
"""In the data folder: what an engine says about itself while it runs, such as where it listens."""


class RundirError(OSError):
    """The folder for the socket is not ours alone, or cannot be made."""

    what = "the folder for the engine's socket cannot be used"
    fix = "remove it (sudo may be needed), or set XDG_RUNTIME_DIR to a folder of your own with mode 700"


def rundir(home: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The run folder that belongs to the data folder `home`; makes nothing."""
    environ = os.environ if environ is None else environ
    digest = hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:12]
    return _base(environ) / f"flash-{os.getuid()}" / digest


def socket_path(home: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Where the engine of `home` listens."""
    return rundir(home, environ) / SOCKET


def prepare(home: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The run folder, made if it was not there; RundirError unless it and its parent are ours alone."""
    folder = rundir(home, environ)
    for path in (folder.parent, folder):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise RundirError(f"{path} cannot be made: {error.strerror}") from error
        check(path)
    return folder


def check(path: Path) -> None:
    """RundirError unless `path` is a real folder, the user's own, and closed to everybody else."""
    try:
        found = path.lstat()
    except OSError as error:
        raise RundirError(f"{path} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise RundirError(f"{path} is not a folder (a symlink is not accepted here)")
    if found.st_uid != os.getuid():
        raise RundirError(f"{path} belongs to user {found.st_uid}, not to you ({os.getuid()})")
    if found.st_mode & 0o077:
        raise RundirError(f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}, must be 700)")


def _base(environ: Mapping[str, str]) -> Path:
    wanted = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(wanted):
        try:
            found = os.stat(wanted)
        except OSError:
            return Path("/tmp")
        # After `sudo` it often still names the other user's folder.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and len(os.fsencode(wanted)) <= 60:
            return Path(wanted)
    return Path("/tmp")
