"""How much of the machine others used while we measured: figures of a busy machine are worth little."""

from __future__ import annotations

import resource
import time

import psutil


class Neighbours:
    """Watches from its creation on."""

    def __init__(self) -> None:
        self._begin = time.monotonic(), _busy_s(), _ours_s()

    def cores(self) -> float:
        """The cores that all other programs have used on average."""
        begin, busy, ours = self._begin
        theirs = (_busy_s() - busy) - (_ours_s() - ours)
        return max(0.0, theirs / (time.monotonic() - begin))


def _busy_s() -> float:
    """CPU time of the whole machine, seconds."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _ours_s() -> float:
    """CPU time of this program and of all it has waited for: a nursery waits for whatever was below it."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
