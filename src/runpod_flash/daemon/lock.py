"""One engine for a data folder, however many are started: locks that are held until the process ends.

Two files are locked: `engine.lock` in the run folder, which is on a disk of this machine, and one in the data
folder, because two programs with different XDG_RUNTIME_DIR have two run folders for the same data. The kernel
lets go of a lock when its holder dies, so a file that lies around means nothing; what it says is for people.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from runpod_flash._version import __version__
from runpod_flash.errors import EngineUnavailable

NAME: Final = "engine.lock"
LENGTH: Final = 16384
"""Of what a holder writes, at most: two paths among other things."""
PATIENCE_S: Final = 15.0
"""How long the holder may take until it answers, or is gone: one that leaves waits for its host."""

# File systems that know no locks, mostly of the network kind: the other lock has to do.
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def acquire(
    folders: Sequence[Path], address: Path, *, patience_s: float = PATIENCE_S, doing: str = ""
) -> list[int] | None:
    """Locks all of `folders`, of which the data folder is the last; None if another engine has them and answers.

    `address` is where we shall listen; `doing` is for a holder that is no engine: what it does, in words.

    The locks are the open descriptors returned. EngineUnavailable if the holder neither answers nor ends.
    """
    end = time.monotonic() + patience_s
    held: list[int] = []
    for folder in folders:
        fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held.append(fd)
        while not _locked(fd):
            holder = _holder(fd)
            if _answers(holder.get("socket") or address):
                for one in held:
                    os.close(one)
                return None
            if time.monotonic() > end:
                raise _stuck(folder / NAME, holder)
            time.sleep(random.uniform(0.01, 0.03))
    for fd in held:
        _sign(fd, address, folders[-1], doing)
    return held


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _sign(fd: int, address: Path, home: Path, doing: str) -> None:
    """Says who holds the lock, for those who find it held; and for which data folder, for those who clear up."""
    text = {"pid": os.getpid(), "host": socket.gethostname(), "version": __version__}
    text |= {"socket": str(address), "home": str(home)}
    if doing:
        text["doing"] = doing
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(text).encode(), 0)


def _holder(fd: int) -> dict[str, Any]:
    """What the holder wrote; nothing if it has only just begun."""
    try:
        found = json.loads(os.pread(fd, LENGTH, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _answers(address: object) -> bool:
    """Whether somebody listens there. A full queue of connections is a sign of life too."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(address))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _stuck(path: Path, holder: dict[str, Any]) -> EngineUnavailable:
    host, pid = holder.get("host", "an unknown machine"), holder.get("pid", "unknown")
    here = host == socket.gethostname()
    if doing := holder.get("doing"):
        return EngineUnavailable(
            f"the data folder is in use: {doing}",
            why=f"process {pid} on {host} keeps engines from starting until it is done",
            fix="try again when it has ended",
        )
    return EngineUnavailable(
        "another engine has this data folder, and does not answer",
        why=f"process {pid} on {host} (version {holder.get('version', 'unknown')}) holds {path}, but nobody "
        f"listens at {holder.get('socket', 'its socket')}: it may run in a container, or be stuck",
        fix=f"end it (kill {pid}), then try again" if here else "stop it there, or set FLASH_HOME to another folder",
    )
