"""Volumes on this machine: `<data folder>/volumes/<id>/`, whose folder `files` is what workers see.

Beside it lies `volume.json`, with what was said of the volume. Whoever uses a volume holds a shared lock on its folder,
so that it is not removed meanwhile; the kernel gives the lock back, however its holder ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.model.volumes import VOLUME_NAME, is_volume_name

FOLDER: Final = "volumes"
FILES: Final = "files"
FACTS: Final = "volume.json"
_GONE: Final = ".gone."
"""Before the name of a volume that is being deleted; no volume's name begins so."""


class VolumeInUse(OSError):
    """Workers have it mounted, or a command is at it."""


class Use(NamedTuple):
    """What a volume takes."""

    files: int
    size: int  # bytes on disk


class Volume:
    """One volume, there or not. ValueError for what cannot be the name of one."""

    def __init__(self, home: Path, name: str) -> None:
        if not is_volume_name(name):
            raise ValueError(f"{name!r} cannot be the name of a volume: that is {VOLUME_NAME}")
        self.name = name
        self.folder = home / FOLDER / name

    @property
    def files(self) -> Path:
        """What workers see."""
        return self.folder / FILES

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return self.files.is_dir()

    def ensure(self, size_gb: int | None = None) -> bool:
        """Makes it unless it is there, and remembers its size; whether it is new."""
        new = not self.exists
        self.files.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self.facts()
        size = size_gb or known.get("size_gb")
        if new or not known or size != known.get("size_gb"):
            self._write({"made_at_ms": known.get("made_at_ms", time.time_ns() // 1_000_000), "size_gb": size})
        return new

    def facts(self) -> dict[str, Any]:
        """`made_at_ms` and `size_gb`; nothing if nobody wrote them, or they cannot be read."""
        try:
            facts = json.loads((self.folder / FACTS).read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def use(self) -> Use:
        """Counts its files; takes as long as there are many."""
        count = size = 0
        for found in _walk(self.files):
            count += not found.is_dir(follow_symlinks=False)
            size += found.stat(follow_symlinks=False).st_blocks * 512
        return Use(count, size)

    def hold(self) -> int:
        """A descriptor that keeps it from being removed; made, if it was removed a moment ago."""
        while True:
            self.ensure()
            held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_SH)
            if self._is_still(held):
                return held
            os.close(held)

    def remove(self, *, force: bool = False) -> None:
        """Deletes it with all its files; VolumeInUse if somebody holds it, unless by `force`."""
        held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not force:
                os.close(held)
                raise VolumeInUse(f"the volume {self.name!r} is in use") from None
        # In one step it is nobody's volume any more: half of one never shows.
        aside = self.folder.with_name(f"{_GONE}{self.name}.{time.monotonic_ns()}")
        try:
            self.folder.rename(aside)
        finally:
            os.close(held)
        shutil.rmtree(aside)

    @property
    def in_use(self) -> bool:
        """Whether somebody holds it right now."""
        held = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(held)
        return False

    def _is_still(self, held: int) -> bool:
        try:
            return os.path.samestat(os.fstat(held), os.stat(self.folder))
        except FileNotFoundError:
            return False

    def _write(self, facts: dict[str, Any]) -> None:
        temporary = self.folder / f"{FACTS}.{os.getpid()}"
        temporary.write_text(json.dumps(facts))
        temporary.replace(self.folder / FACTS)


def volumes(home: Path) -> list[Volume]:
    """Those that are there, by name."""
    folder = home / FOLDER
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [one for name in names if is_volume_name(name) and (one := Volume(home, name)).exists]


def leftovers(home: Path) -> list[Path]:
    """What is left of volumes whose removal was cut short."""
    return sorted((home / FOLDER).glob(f"{_GONE}*"))


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    todo = [str(folder)]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:  # removed meanwhile, or closed to us
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
            yield entry
