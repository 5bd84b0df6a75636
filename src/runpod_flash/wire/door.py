"""The way out of a worker, for calls that its functions make: the worker sets it, the client in its process uses it.

A process without one is a program, or one that a worker's function started: that has a worker's variables, and no door.
Standard library only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

Caller = tuple[str, int]
"""A job (or a load-balanced call) and its attempt."""


class Door(Protocol):
    """What a worker offers to the client in its process."""

    def open(self) -> socket.socket | None:
        """A stream to the engine, which has been told whose it is; None while there is no engine. Blocks."""

    def caller(self) -> Caller | None:
        """What the current code runs for; None outside of any job."""


_door: Door | None = None


def install(door: Door) -> None:
    """This process is a worker, and that is how it reaches the engine."""
    global _door
    _door = door


def here() -> Door | None:
    """The door of this process."""
    return _door


def caller() -> Caller | None:
    """What makes the call that is being made: nothing in a program, a job in a worker."""
    return _door.caller() if _door is not None else None


def _leave() -> None:
    """A forked child has the descriptors of nobody."""
    global _door
    _door = None


os.register_at_fork(after_in_child=_leave)
