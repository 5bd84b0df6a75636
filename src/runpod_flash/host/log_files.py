"""The files that keep what workers print: written in segments, removed when they are old or too much."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from runpod_flash.wire import logfile

SEGMENT_LIMIT = 16 * 1024 * 1024
TOTAL_LIMIT = 1024 * 1024 * 1024
KEEP_DAYS = 7


class SegmentFile:
    """Appends records to `<home>/logs/<day>/<worker>.<n>`, a new file each day and each 16 MiB."""

    def __init__(self, home: Path, worker: str) -> None:
        self._home = home
        self._worker = worker
        self._day = ""
        self._number = 0
        self._fd = -1
        self._size = 0

    def append(self, record: bytes) -> tuple[str, int, int]:
        """The segment's name, the record's begin and end in it; OSError leaves the file as it was."""
        day = time.strftime("%Y-%m-%d")
        if self._fd < 0 or day != self._day or self._size >= SEGMENT_LIMIT:
            self._next(day)
        start = self._size
        try:
            view = memoryview(record)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, start)
            raise
        self._size = start + len(record)
        return f"{logfile.FOLDER}/{self._day}/{self._worker}.{self._number}", start, self._size

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self, day: str) -> None:
        self.close()
        if self._number:
            prune(self._home)  # one that prints this much must not fill the disk until the hourly round
        folder = self._home / logfile.FOLDER / day
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{self._worker}.{self._number + 1}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._day, self._number = day, self._number + 1
        self._size = os.fstat(self._fd).st_size


def prune(home: Path, now: float | None = None, limit: int = TOTAL_LIMIT) -> None:
    """Removes what is older than seven days, then the oldest until the rest is within the limit."""
    now = time.time() if now is None else now
    found = []
    for path in (home / logfile.FOLDER).glob("*/*"):
        with suppress(OSError):
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in found)
    for changed, size, path in sorted(found):
        if total <= limit and changed > now - KEEP_DAYS * 86400:
            break
        with suppress(OSError):
            path.unlink()
            total -= size
    for folder in (home / logfile.FOLDER).glob("????-??-??"):
        with suppress(OSError):  # not empty
            folder.rmdir()


class HostLog:
    """`<home>/logs/host.log`: events, never what variables hold. Starts anew at 4 MiB, keeping one."""

    LIMIT = 4 * 1024 * 1024

    def __init__(self, home: Path, descriptors: tuple[int, ...] = ()) -> None:
        self._path = home / logfile.FOLDER / "host.log"
        self._descriptors = descriptors  # of ours, such as 2, that shall lead into the file too
        self._fd = -1
        self._open()

    def note(self, text: str) -> None:
        """One event."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        try:
            if os.fstat(self._fd).st_size > self.LIMIT:
                os.replace(self._path, self._path.with_suffix(".log.1"))
                self._open()
            os.write(self._fd, f"{stamp} [{os.getpid()}] {text}\n".encode("utf-8", "replace"))
        except OSError:
            pass  # a full disk must not end the host

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        for descriptor in self._descriptors:
            os.dup2(fd, descriptor)
