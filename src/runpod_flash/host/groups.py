"""Control groups: limits that the kernel keeps, where it lets us make groups of our own.

A group may be made below ours only if that is ours to divide: at the top of a hierarchy, where nobody has put us into
one; or where whoever did has said so (systemd's `Delegate=`; for an ordinary user, by owning the folder). Elsewhere its
maker alone may change what is in it, and the host keeps the limits itself (`guard.py`).

Groups are named after the run folder and the worker, so the next host finds what a host that was killed has left.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import send

ROOT: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 100_000
_DELEGATED: Final = ("trusted.delegate", "user.delegate")
_TRIES, _PAUSE_S = 50, 0.02
"""A group can be removed once the kernel has taken its last process apart."""


class Place(NamedTuple):
    """Where groups for one kind of limit can be made, and whether they are of cgroup v2."""

    folder: Path
    unified: bool


def find_places(root: Path = ROOT, own: Path = Path("/proc/self/cgroup"), *, enable: bool = True) -> dict[str, Place]:
    """Where limits of `cpu` and of `memory` can be had from the kernel; without what cannot be had.

    With `enable` a controller that waits to be switched on is, where that is ours to do; else it counts as it is.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {}
    groups = {names: path for line in lines if line.count(":") >= 2 for _, names, path in [line.split(":", 2)]}
    return {name: place for name in ("cpu", "memory") if (place := _place_of(name, groups, root, enable))}


def _place_of(controller: str, groups: dict[str, str], root: Path, enable: bool) -> Place | None:
    for names, path in groups.items():
        if controller in names.split(","):
            folder = root / controller
            return Place(folder, unified=False) if path == "/" and os.access(folder, os.W_OK) else None
    if "" not in groups:
        return None
    folder = root / groups[""].lstrip("/")
    if not _is_ours(folder, groups[""]) or controller not in _words(folder / "cgroup.controllers"):
        return None
    if enable and controller not in _words(folder / "cgroup.subtree_control"):
        try:  # refused where the group has processes of its own, unless it is the very first
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            return None
    return Place(folder, unified=True)


def _is_ours(folder: Path, path: str) -> bool:
    if not os.access(folder / "cgroup.procs", os.W_OK) or not os.access(folder / "cgroup.subtree_control", os.W_OK):
        return False
    return path == "/" or os.geteuid() != 0 or any(_attribute(folder, name) == b"1" for name in _DELEGATED)


def _attribute(folder: Path, name: str) -> bytes:
    try:
        return os.getxattr(folder, name)
    except (OSError, AttributeError):
        return b""


class Groups:
    """Makes a group for each worker that needs one, and takes it away after the worker's end."""

    def __init__(self, tag: str, loop: Loop, note: Callable[[str], None], places: dict[str, Place]) -> None:
        self._prefix = f"flash-{tag}-"
        self._loop = loop
        self._note = note
        self._places = places

    def sweep(self) -> None:
        """Ends and removes what a host that was killed has left."""
        for folder in {place.folder for place in self._places.values()}:
            for left in folder.glob(f"{self._prefix}*"):
                self._remove(left, _TRIES)

    def hold(self, worker: str, pid: int, cpus: float, memory_mb: int, leases: ExitStack) -> None:
        """Puts a process under limits, for all that it will ever start; 0: no limit of that kind."""
        wanted = {"cpu": cpus, "memory": memory_mb}
        for folder, limits in self._limits({name: value for name, value in wanted.items() if value}):
            group = folder / f"{self._prefix}{worker}"
            try:
                group.mkdir(exist_ok=True)
                leases.callback(self._remove, group, _TRIES)
                for name, text in limits:
                    _set(group / name, text)
                (group / "cgroup.procs").write_text(str(pid))
            except OSError as error:
                self._note(f"worker {worker} has no control group: {error}; the host keeps its limits")

    def has_killed(self, worker: str) -> bool:
        """Whether the kernel has ended a process of the worker's because its group was full."""
        place = self._places.get("memory")
        if place is None:
            return False
        group = place.folder / f"{self._prefix}{worker}"
        facts = _lines(group / ("memory.events" if place.unified else "memory.oom_control"))
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in facts)

    def _limits(self, wanted: dict[str, float]) -> Iterator[tuple[Path, list[tuple[str, str]]]]:
        for name, value in wanted.items():
            if place := self._places.get(name):
                words = _cpu(value, place) if name == "cpu" else _memory(int(value), place)
                yield place.folder, words

    def _remove(self, group: Path, tries: int) -> None:
        for pid in _lines(group / "cgroup.procs"):
            send(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            pass
        except OSError as error:
            if tries:
                self._loop.after(_PAUSE_S, lambda: self._remove(group, tries - 1))
            else:
                self._note(f"the control group {group} cannot be removed: {error}")


def _cpu(cpus: float, place: Place) -> list[tuple[str, str]]:
    quota = max(1000, round(cpus * _PERIOD_US))  # the kernel takes no less than a millisecond
    if place.unified:
        return [("cpu.max", f"{quota} {_PERIOD_US}")]
    return [("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]


def _memory(megabytes: int, place: Place) -> list[tuple[str, str]]:
    limit = str(megabytes << 20)
    if place.unified:
        # All of a worker or nothing of it: a function whose child vanished could only guess why.
        return [("memory.max", limit), ("memory.swap.max", "0"), ("memory.oom.group", "1")]
    return [("memory.limit_in_bytes", limit)]


def _set(file: Path, text: str) -> None:
    if file.name in ("memory.swap.max", "memory.oom.group"):  # not everywhere, and not needed
        with suppress(OSError):
            file.write_text(text)
    else:
        file.write_text(text)


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
