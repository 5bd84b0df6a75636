"""The seam between the engine and places: a provider starts *hosts*, and knows nothing of workers or jobs.

A host then connects to the engine by itself, so all that a place has to say is whether one is still there.
What further places need (listing after a restart, capacity, remote logs) joins with the first of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class HostProcess(Protocol):
    """A host that was started."""

    @property
    def pid(self) -> int:
        """Its process id here, or 0 where it runs elsewhere."""

    def fileno(self) -> int:
        """A descriptor, readable when the host is gone; -1 where there is none: ask `reap` now and then."""

    def reap(self) -> int | None:
        """Its exit code (negative: the signal that killed it), or None while it runs."""

    def terminate(self) -> None:
        """Asks it to end in good order. Idempotent; of no effect on one that is gone."""

    def close(self) -> None:
        """Forgets it, without ending it."""


class Provider(Protocol):
    """A place where hosts can be started."""

    name: str

    def start(self, socket: Path, home: Path, rundir: Path, key: str) -> HostProcess:
        """Starts one host that will greet the engine at `socket` with `key`; OSError if that cannot be."""
