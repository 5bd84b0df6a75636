"""A job that a program of the user's own has, and the polls by which it gets one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from runpod_flash.engine.records import Active
from runpod_flash.wire.messages import Start

SYNC: Final = "sync-"
"""So begins the id of a job that somebody waits for over HTTP."""


class Poll(Protocol):
    """A request that a program holds open."""

    room: int  # of job-take: how many jobs it asks for

    def answer(self, data: bytes) -> None:
        """What it waited for, as JSON text."""

    def nothing(self) -> None:
        """It may ask again."""

    def later(self) -> None:
        """It shall ask again after a while."""


@dataclass(slots=True, eq=False)
class Given:
    """A job that the program has, or is being given."""

    active: Active
    at: float  # monotonic
    confirmed: bool = False
    misses: int = 0
    stopping: str = ""  # why it shall end: a kind of error
    stop_at: float = 0.0
    chunks: int = -1  # items that it has yielded; -1: not known yet
    finishing: bool = False  # its result is being put away


def job_text(start: Start, parts: Sequence[Any]) -> bytes:
    """A job as the program reads it. Its input is JSON text already, and so is what else was said of it."""
    more = bytes(parts[1])[1:] if len(parts) > 1 else b"}"
    comma = b"" if more == b"}" else b","
    return b'{"id":%b,"input":%b%b%b' % (msgspec.json.encode(start.job), bytes(parts[0]), comma, more)
