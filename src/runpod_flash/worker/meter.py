"""What calls take of the processors and of memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Final

_SHORT_NS: Final = 1_000_000
"""To ask the system costs microseconds. A call that is shorter than this is taken to use one processor all the time."""
_PER_KB: Final = 1024 if sys.platform == "darwin" else 1


class Meter:
    """Reads what a process has used since it was asked last; short calls in between are left out."""

    def __init__(self) -> None:
        self._seen_ns = time.process_time_ns()
        self._short_ns = 0
        self._programs_s = 0.0  # of programs that were started and waited for

    def read(self, run_ns: int) -> str:
        """The fields `cpu_us` and `peak_kb` of a result's head, for a call that took so long; short: none."""
        if run_ns < _SHORT_NS:
            self._short_ns += run_ns
            return ""
        now, others = time.process_time_ns(), resource.getrusage(resource.RUSAGE_CHILDREN)
        programs_s = others.ru_utime + others.ru_stime
        used_ns = max(0, now - self._seen_ns - self._short_ns) + round((programs_s - self._programs_s) * 1e9)
        self._seen_ns, self._short_ns, self._programs_s = now, 0, programs_s
        peak_kb = max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, others.ru_maxrss) // _PER_KB
        return f'"cpu_us":{used_ns // 1000},"peak_kb":{peak_kb},'
