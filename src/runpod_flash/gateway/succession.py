"""The gateway's port on its way from one engine to the next, so that nobody who connects meanwhile is refused.

The engine that leaves keeps the listening socket open, and offers it at a socket in the run folder, until its successor
has fetched it. Connections that come in between wait in that socket's queue.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

NAME: Final = "gateway.sock"
_FETCH_S: Final = 1.0


class Offer:
    """A listening socket that waits for the next engine."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._path = folder / NAME
        self._listener = listener.dup()
        self._path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._path))
        self._door.listen(1)

    def wait(self, patience_s: float) -> bool:
        """Blocks until it was fetched, or for so long; whether it was."""
        try:
            with self._listener, self._door:
                self._door.settimeout(patience_s)
                with self._door.accept()[0] as heir:
                    socket.send_fds(heir, [b"L"], [self._listener.fileno()])
                return True
        except OSError:  # nobody came, or who came went away
            return False
        finally:
            self._path.unlink(missing_ok=True)


def fetch(folder: Path, wanted: int) -> socket.socket | None:
    """The socket that the last engine offers, if it does, and it listens at the port that is wanted (0: at any)."""
    path = folder / NAME
    if not path.exists():
        return None
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(_FETCH_S)
        try:
            door.connect(str(path))
            _said, descriptors, _flags, _address = socket.recv_fds(door, 1, 1)
        except OSError:  # it ended without a word
            descriptors = []
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    if not descriptors:
        return None
    os.set_inheritable(descriptors[0], False)
    listener = socket.socket(fileno=descriptors[0])
    listener.setblocking(False)
    if wanted and listener.getsockname()[1] != wanted:
        listener.close()
        return None
    return listener
