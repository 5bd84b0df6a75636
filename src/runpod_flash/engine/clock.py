"""Time as the engine sees it: wall clock for the record, a steady clock for decisions."""

from __future__ import annotations

import time
from typing import Final

_time_ns: Final = time.time_ns


class Clock:
    """The machine's clocks. The wall clock never goes back, also not when the machine's does."""

    def __init__(self, last_wall_ms: int = 0) -> None:
        self._last = last_wall_ms

    def wall_ms(self) -> int:
        """Unix time in milliseconds, never less than before."""
        now = _time_ns() // 1_000_000
        if now > self._last:
            self._last = now
        return self._last

    monotonic = staticmethod(time.monotonic)
    """Seconds that only ever grow; of this process only."""
