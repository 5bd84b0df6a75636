"""Folders of things that are built: one that has its final name and its marker is complete.

What is being built, or is being deleted, lies beside them in `tmp.<pid>.<n>`, on the same disk.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import msgspec


class Folders:
    """One such folder; `marker` is the file that each complete thing in it has."""

    def __init__(self, folder: Path, marker: str) -> None:
        self.folder = folder
        self._marker = marker
        self._count = 0

    def path(self, name: str) -> Path:
        """Where the one of that id lies, if it does."""
        return self.folder / name

    def names(self) -> list[str]:
        """The complete ones."""
        if not self.folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.folder.glob(f"*/{self._marker}"))

    def new_folder(self) -> Path:
        """A place to build in, on the same disk."""
        self._count += 1
        path = self.folder / f"tmp.{os.getpid()}.{self._count}"
        path.mkdir(mode=0o700, parents=True)
        return path

    def retire(self, name: str) -> Path:
        """Takes the name from one, at once; what is left is for deletion."""
        aside = self.new_folder()
        self.path(name).rename(aside / "retired")
        return aside

    def touch(self, name: str) -> None:
        """It was used now."""
        with suppress(OSError):
            os.utime(self.path(name) / self._marker)

    def used_at_ms(self, name: str) -> int:
        """When that was, or when it was built."""
        return int((self.path(name) / self._marker).stat().st_mtime * 1000)

    def sweep(self) -> list[Path]:
        """What dead builds left behind, for deletion: their host is gone, or is this process anew."""
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.glob("tmp.*") if not _is_another_host(path.name)]

    def lock(self, key: str) -> int | None:
        """The right to build that: a descriptor to close afterwards. None: another has it."""
        folder = self.folder / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def remember(self, key: str, meaning: msgspec.Struct) -> None:
        """From now on, a request of that key means this."""
        file = self.request_file(key)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f"tmp.{os.getpid()}.{key}")
        temporary.write_bytes(msgspec.json.encode(meaning))
        temporary.rename(file)

    def request_file(self, key: str) -> Path:
        """Where that is kept."""
        if not key.isalnum():
            raise ValueError(f"{key!r} is no request key")
        return self.folder / "requests" / f"{key}.json"


def _is_another_host(name: str) -> bool:
    pid = name.split(".")[1]
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        return b"runpod_flash.host" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
