"""One stream of lines for all that happens while an app is served: requests, calls, what functions print.

12:01:02.123  POST /gpu/hello                   200            1.22 s
12:01:02.120  gpu_hello               3f2a9c    COMPLETED      1.20 s, 0.90 s of it queued
12:01:02.101  gpu_hello               3f2a9c    | a line that it printed
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runpod_flash.client.output import Ended

_WHAT: Final = 36
_MOST: Final = 100
"""A path that is longer breaks the columns; one that is longer than this is cut."""
_WORKER: Final = 8
_END: Final = 9
BOLD, DIM, GOOD, LINK = "1", "2", "32", "36"
_BAD, _WARN = "31", "33"


def line(what: str, worker: str = "", end: str = "", rest: str = "") -> str:
    """One line: what it is about, by which worker, how it ended, and how long it took."""
    end = f"{end:<{_END}}"
    text = f"{styled(_clock(), DIM)}  {_fitted(what)}  {_short(worker)}  {_coloured(end)}  {styled(rest, DIM)}"
    return text.rstrip()


def printed(function: str, worker: str, text: str) -> str:
    """What a function printed, or waits for."""
    return f"{styled(_clock(), DIM)}  {_fitted(function)}  {_short(worker)}  {styled('|', DIM)} {text}"


def note(what: str, text: str) -> str:
    """What happened to the app itself."""
    return f"{styled(_clock(), DIM)}  {_fitted(what)}  {text}"


def told(ended: Ended) -> None:
    """A call of a remote function that has ended."""
    took = duration((ended.waited_ms + ended.ran_ms) / 1000)
    queued = f", {duration(ended.waited_ms / 1000)} of it queued" if ended.waited_ms >= 1 else ""
    error = f"  {ended.error.splitlines()[0]}" if ended.error else ""
    more = f"  (flash job {ended.job[-8:]})" if ended.error and ended.job else ""
    write(line(ended.function, ended.worker, ended.status, f"{took}{queued}{error}{more}"))


def write(text: str) -> None:
    """One write, so that lines do not mix; a broken standard error stops nothing."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass


def duration(seconds: float) -> str:
    """`8 ms`, `1.22 s`, `2m 05s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{int(seconds // 60)}m {int(seconds % 60):02d}s"


def _clock() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]


def _fitted(what: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in what)
    return f"{shown:<{_WHAT}}" if len(shown) <= _MOST else f"{shown[: _MOST - 1]}…"


def _short(worker: str) -> str:
    if not worker:
        return " " * _WORKER
    from runpod_flash.client.output import short  # noqa: PLC0415 - whoever only supervises has no workers

    return f"{short(worker):<{_WORKER}}"


def _coloured(end: str) -> str:
    word = end.strip()
    if word in {"FAILED", "TIMED_OUT", "broken"} or word.startswith("5"):
        return styled(end, _BAD)
    if word == "COMPLETED" or word.startswith("2"):
        return styled(end, GOOD)
    return styled(end, _WARN) if word.startswith("4") else end


def styled(text: str, style: str) -> str:
    """The text in that style (a number of ANSI), where standard error takes colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and _colours() else text


def _colours() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False
