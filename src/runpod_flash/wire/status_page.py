"""The worker's status page: 128 shared bytes that say what the worker is doing right now.

The worker writes, the host reads, so nothing is sent for it: the host enforces deadlines, attributes
raw output and names the job that a crashed worker was running, also while the engine is away and also
after the worker (or the host) has died, since the page is a file. One field goes the other way: the
host counts the raw output that it has read. Standard library only.

The writer makes `seq` odd while it changes the other fields; a reader that meets an odd or changed
`seq` reads again, and takes what is there after a few tries (the writer died in mid-write).
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

SIZE: Final = 128
_FIELDS = struct.Struct("<QQQQ64s")  # epoch, attempt, started_ns, deadline_ns, job id
_TIMES = struct.Struct("<QQ")  # the third and fourth of these
_TIMES_AT: Final = 8 + 16
_SEQ = struct.Struct("<Q")
_RAW = struct.Struct("<Q")
_RAW_AT: Final = 8 + _FIELDS.size
_TRIES: Final = 5
# Used for every call: a name is found sooner than an attribute of a name.
_pack_seq, _pack_fields, _pack_times, _unpack_raw = (
    _SEQ.pack_into,
    _FIELDS.pack_into,
    _TIMES.pack_into,
    _RAW.unpack_from,
)


class Status(NamedTuple):
    """The call that a worker began last; times are CLOCK_MONOTONIC nanoseconds.

    `job` is "" before the first call. Between calls the job stays and `started_ns` and `deadline_ns` are 0: a
    worker that dies before its result went out must not look as if it had never begun.
    """

    job: str
    epoch: int
    attempt: int
    started_ns: int
    deadline_ns: int

    @property
    def running(self) -> bool:
        """Whether user code was running, rather than over."""
        return self.started_ns != 0


IDLE: Final = Status("", 0, 0, 0, 0)


class StatusPage:
    """One mapped page; open it once on each side and close it when the worker is gone."""

    __slots__ = ("_map", "_seq")

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        self._seq = 0

    def begin(self, job: str, epoch: int, attempt: int, timeout_ms: int) -> None:
        """Says that user code of `job` starts now; `timeout_ms` 0 means no deadline."""
        now = time.monotonic_ns()
        deadline = now + timeout_ms * 1_000_000 if timeout_ms else 0
        page, seq = self._map, self._seq
        _pack_seq(page, 0, seq + 1)
        _pack_fields(page, 8, epoch, attempt, now, deadline, job.encode())
        _pack_seq(page, 0, seq + 2)
        self._seq = seq + 2

    def end(self) -> None:
        """Says that the call is over; the page still names it."""
        page, seq = self._map, self._seq
        _pack_seq(page, 0, seq + 1)
        _pack_times(page, _TIMES_AT, 0, 0)
        _pack_seq(page, 0, seq + 2)
        self._seq = seq + 2

    def read(self) -> Status:
        """What the worker is doing, as far as it got to say so."""
        fields = b""
        for _ in range(_TRIES):
            before = _SEQ.unpack_from(self._map)[0]
            fields = self._map[8 : 8 + _FIELDS.size]
            if before % 2 == 0 and _SEQ.unpack_from(self._map)[0] == before:
                break
        epoch, attempt, started, deadline, job = _FIELDS.unpack(fields)
        return Status(job.rstrip(b"\0").decode("ascii", "replace"), epoch, attempt, started, deadline)

    def raw_bytes(self) -> int:
        """Bytes that the host has read from the worker's bare stdout and stderr."""
        (count,) = _unpack_raw(self._map, _RAW_AT)
        return count  # type: ignore[no-any-return]

    def add_raw_bytes(self, count: int) -> None:
        """Host only: counts bare output, so that the worker can tell whether a call made any."""
        _RAW.pack_into(self._map, _RAW_AT, self.raw_bytes() + count)

    def close(self) -> None:
        """Unmaps the page."""
        self._map.close()


def read_page(path: Path) -> Status:
    """What the worker of the page at `path` did last; IDLE when there is no such page."""
    try:
        page = StatusPage(path)
    except (FileNotFoundError, ValueError):
        return IDLE
    try:
        return page.read()
    finally:
        page.close()
