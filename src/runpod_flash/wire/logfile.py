"""The log files of workers: one writer (the host), any reader (the engine, `flash logs`).

A file is a row of records; a record is one line of facts, then whole lines of output::

    wall_ms job attempt fd len\n      job is "-" for output that belongs to no call
    len bytes, the last one a line end

Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = "logs"
"""Name of the folder of logs inside the data folder; below it one folder a day."""

_HEADER = re.compile(rb"(\d+) (\S+) (\d+) ([12]) (\d+)\n")


class Record(NamedTuple):
    """Some lines of one stream of one attempt; `job` is "" for output that belongs to no call."""

    at_ms: int
    job: str
    attempt: int
    fd: int
    data: bytes


def encode(at_ms: int, job: str, attempt: int, fd: int, data: bytes) -> bytes:
    """The bytes of one record; `data` ends with a line end."""
    return b"%d %s %d %d %d\n%b" % (at_ms, job.encode() or b"-", attempt, fd, len(data), data)


def decode(data: bytes) -> Iterator[Record]:
    """The records in `data`; ends at the first one that is not whole, as the writer may be in its midst."""
    return (record for _end, record in _walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, Record]]:
    """Each record, and where it ends."""
    at = 0
    while found := _HEADER.match(data, at):
        start, length = found.end(), int(found[5])
        if start + length > len(data):
            return
        job = found[2].decode("ascii", "replace")
        at = start + length
        yield at, Record(int(found[1]), "" if job == "-" else job, int(found[3]), int(found[4]), data[start:at])


def read_span(home: Path, segment: str, start: int, length: int, job: str, attempt: int) -> list[tuple[int, int, str]]:
    """The lines (wall_ms, fd, text) that an attempt printed, from one stretch of one file.

    Output of other attempts in the same stretch is left out. A file that is gone has no lines.
    """
    try:
        with open(_inside(home, segment), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
            data = file.read(max(0, min(length, size - start)))
    except FileNotFoundError:
        return []
    return [
        (record.at_ms, record.fd, line)
        for record in decode(data)
        if record.job == job and record.attempt == attempt
        for line in lines_of(record.data)
    ]


def read_on(home: Path, segment: str, start: int, length: int) -> tuple[list[tuple[int, int, Record]], bool]:
    """The whole records of a stretch, each with its begin and end in the file; and whether the file goes on behind.

    A record that is longer than the stretch is read nevertheless. A file that is gone has none.
    """
    try:
        with open(_inside(home, segment), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while True:
                file.seek(start)
                ends = list(_walk(file.read(max(0, min(length, size - start)))))
                if ends or start + length >= size:
                    break
                length *= 4
    except FileNotFoundError:
        return [], False
    begins = [0, *(end for end, _record in ends)]
    found = [(start + begin, start + end, record) for begin, (end, record) in zip(begins, ends, strict=False)]
    return found, start + length < size


def segments_of(home: Path, worker: str) -> list[str]:
    """The files with the output of one worker, oldest first, as `read_span` takes them.

    For what is printed right now: an attempt gets its span only when it ends.
    """
    found = [path for path in (home / FOLDER).glob(f"*/{worker}.*") if path.suffix[1:].isdigit()]
    found.sort(key=lambda path: (path.parent.name, int(path.suffix[1:])))
    return [str(path.relative_to(home)) for path in found]


def lines_of(data: bytes) -> list[str]:
    """Whole lines as text without their ends; bytes that are no UTF-8 become U+FFFD."""
    return data.removesuffix(b"\n").decode("utf-8", "replace").split("\n")


def _inside(home: Path, segment: str) -> Path:
    """The path of a segment; a span comes from a peer, so it must not lead out of the log folder."""
    parts = Path(segment).parts
    if len(parts) != 3 or parts[0] != FOLDER or ".." in parts:
        raise ValueError(f"{segment!r} is no log file")
    return home / segment
