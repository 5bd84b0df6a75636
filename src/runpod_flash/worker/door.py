"""How the functions of a worker reach the engine: the host connects, and hands over what it connected.

The worker sends one end of a new pair of sockets over its control socket, and gets the connection on the other. So
whichever thread asks waits for its own answer, and nobody else has to read for it: the main thread may be in a plain
function, and so may the loop of a load-balanced worker.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from runpod_flash.wire.door import Caller
from runpod_flash.worker import context

ASK: Final = b"C"
"""With a descriptor, from a worker to its host: connect for me, and answer there."""
_PATIENCE_S: Final = 10.0


class Door:
    """The door of a worker; `control` is its socket to the host."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def open(self) -> socket.socket | None:
        """A stream to the engine, on which the host has said which worker it is; None while there is no engine."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self._control, [ASK], [theirs.fileno()])
            ours.settimeout(_PATIENCE_S)
            try:
                _said, descriptors, _flags, _address = socket.recv_fds(ours, 1, 1)
            except TimeoutError:  # a host that is this busy will have time later
                return None
        if not descriptors:
            return None
        os.set_inheritable(descriptors[0], False)
        return socket.socket(fileno=descriptors[0])

    def caller(self) -> Caller | None:
        """The job of the current code; in a thread that the user's code started, the one job that runs here."""
        job = context.CURRENT.get() or context.only_one()
        return (job.job, job.attempt) if job is not None else None
