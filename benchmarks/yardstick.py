"""What this machine can do at best. Every other figure of a run is read beside these."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

MESSAGE: Final = b"." * 200
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True)
class Reading:
    """Best and middle of several repetitions, each the median of many trips."""

    best: float
    typical: float


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """This process, and what it starts meanwhile, on one core (None: on any)."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def round_trip_us(core: int | None, *, repetitions: int = 7, trips: int = 5_000) -> Reading:
    """Microseconds to send 200 bytes to another process over a unix socket and have them back.

    Two blocking processes on one core: no wake-up of a sleeping core is in the figure, so it repeats well.
    """
    with pinned(core):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        child = os.fork()
        if child == 0:
            ours.close()
            _echo(theirs)
        theirs.close()
        try:
            found = [_median_trip_us(ours, trips) for _ in range(repetitions)]
        finally:
            ours.close()
            os.waitpid(child, 0)
    return Reading(best=min(found), typical=median(found))


def python_ms(*, turns: int = 1_000_000, repetitions: int = 9) -> Reading:
    """Milliseconds that this Python takes to count to a million: builds of one version differ by half."""
    found = []
    for _ in range(repetitions):
        begin, count = time.perf_counter_ns(), 0
        while count < turns:
            count += 1
        found.append((time.perf_counter_ns() - begin) / 1e6)
    return Reading(best=min(found), typical=median(found))


def memcpy_ms(*, size: int = 100 * MEGABYTE, repetitions: int = 9) -> Reading:
    """Milliseconds to copy 100 MB from warm pages into warm pages."""
    source, target = bytes(size), bytearray(b"\1") * size
    view = memoryview(target)
    found = []
    for _ in range(repetitions):
        begin = time.perf_counter_ns()
        view[:] = source
        found.append((time.perf_counter_ns() - begin) / 1e6)
    return Reading(best=min(found), typical=median(found))


def sync_us(folder: Path, *, repetitions: int = 200) -> Reading:
    """Microseconds to append 4 KiB to a file and have the disk promise it."""
    found = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(repetitions):
            os.write(file.fileno(), bytes(4096))
            begin = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            found.append((time.perf_counter_ns() - begin) / 1e3)
    return Reading(best=min(found), typical=median(found))


def _echo(stream: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while data := stream.recv(len(MESSAGE)):
            stream.sendall(data)
    finally:
        os._exit(0)


def _median_trip_us(stream: socket.socket, trips: int) -> float:
    found = []
    for _ in range(trips):
        begin = time.perf_counter_ns()
        stream.sendall(MESSAGE)
        stream.recv(len(MESSAGE), socket.MSG_WAITALL)
        found.append(time.perf_counter_ns() - begin)
    return median(found) / 1e3
