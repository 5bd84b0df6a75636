"""Memory of everything that one program started. Standard library only: peers are asked the same question."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

SETTLED_S = 2.0
"""Until all that follows a call has been done."""


def idle_mb() -> float:
    """PSS of the program that asks and of all that it started, detached or not, once nothing runs any more.

    The caller counts too: some keep their scheduler inside it.
    """
    time.sleep(SETTLED_S)
    return pss_mb(below(os.getppid()))  # all in a nursery are below it, and nothing else is


def pss_mb(pids: Iterable[int]) -> float:
    """Proportional: what several share is counted once, in equal parts."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # has just ended
            found.append(rollup_mb(pid, "Pss:"))
    return sum(found)


def rollup_mb(pid: int, field: str) -> float:
    """One line of what the kernel sums up, in MB (of 10**6 bytes)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kibibytes = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(field))
    return kibibytes * 1024 / 1e6


def below(ancestor: int) -> list[int]:
    """The processes that it or one of these has started (or was handed) and that live."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # has just ended
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
    found = [ancestor]
    for pid in found:  # grows while it is walked
        found += children.get(pid, [])
    return found[1:]
