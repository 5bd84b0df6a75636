"""What jobs print, and what they wait for, on the caller's standard error, line by line as it comes.

Never on standard output: that belongs to the user's program.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from runpod_flash.client.session import Stream
from runpod_flash.errors import FlashError
from runpod_flash.model.job import JobStatus
from runpod_flash.wire import messages


class Ended(NamedTuple):
    """How a call ended that this program awaited; times in milliseconds, of the last attempt."""

    function: str
    worker: str
    status: str
    waited_ms: float
    ran_ms: float
    error: str
    job: str = ""
    """Its id; "" of a load-balanced call, which is on no record."""


LineLayout = Callable[[str, str, str], str]
"""Makes a line of a function's name, a worker's id or "", and a text; without the end of the line."""
on_ended: Callable[[Ended], None] | None = None
_layout: LineLayout | None = None


def present(layout: LineLayout | None, ended: Callable[[Ended], None] | None) -> None:
    """From here on, lines look as `layout` has them, and `ended` is told of every call; None is as it was before."""
    global _layout, on_ended
    _layout, on_ended = layout, ended


def notice(text: str) -> None:
    """A word to the user of this program."""
    _write(f"{_line('flash', '', text)}\n")


_said: set[str] = set()


def notice_once(text: str) -> None:
    """A word to the user that would only be noise the second time."""
    if text not in _said:
        _said.add(text)
        notice(text)


Past = Callable[[str, int, int], Awaitable[list[str]]]
"""Gives the lines on record of an attempt of a job, from one on."""


class Watch:
    """Shows what comes for the calls of one function; one serves all calls of it on a link."""

    def __init__(self, label: str, past: Past) -> None:
        self.label = label
        self._past = past
        self._building: dict[str, float] = {}
        self._told: set[str] = set()

    def __call__(self, stream: Stream, head: Any) -> None:
        if isinstance(head, messages.Log):
            self._show_log(stream, head)
        elif isinstance(head, messages.State):
            self._show_wait(head)
        elif isinstance(head, messages.EnvState):
            self._show_build(head)

    async def complete(self, stream: Stream, attempt: int) -> None:
        """Shows what was printed while there was no engine to bring it, for a call that has ended."""
        if stream.catching_up is not None:
            await stream.catching_up
        shown = _shown(stream, attempt)
        self._write_lines(stream, attempt, shown, await self._lines(stream, attempt, shown), "")

    def _show_log(self, stream: Stream, head: messages.Log) -> None:
        """Lines that follow those shown are shown; after a gap, those of the gap are asked for first."""
        shown = _shown(stream, head.attempt)
        if stream.catching_up is not None:
            stream.kept_back = [*stream.kept_back, head]
        elif head.n > shown and stream.again:
            stream.kept_back = [head]
            stream.catching_up = asyncio.get_running_loop().create_task(self._catch_up(stream, head.attempt, shown))
        else:
            self._write_lines(stream, head.attempt, head.n, head.lines, head.worker)

    async def _catch_up(self, stream: Stream, attempt: int, shown: int) -> None:
        first = stream.kept_back[0]
        lines = await self._lines(stream, attempt, shown)
        self._write_lines(stream, attempt, shown, lines[: first.n - shown], first.worker)
        kept, stream.kept_back, stream.catching_up = stream.kept_back, (), None
        for head in kept:
            self._write_lines(stream, head.attempt, head.n, head.lines, head.worker)

    async def _lines(self, stream: Stream, attempt: int, first: int) -> list[str]:
        try:
            return await self._past(stream.head.job, attempt, first)
        except FlashError as error:  # the call has its value all the same
            notice(f"some lines of {self.label} cannot be shown: {error.what} (flash logs {stream.head.job})")
            return []

    def _write_lines(self, stream: Stream, attempt: int, first: int, lines: list[str], worker: str) -> None:
        new = lines[max(0, _shown(stream, attempt) - first) :]
        stream.lines = (attempt, max(_shown(stream, attempt), first + len(lines)))
        _write("".join(f"{_line(self.label, worker, line)}\n" for line in new))

    def _show_wait(self, head: messages.State) -> None:
        """What a call waits for, as soon as the engine finds that worth a word, and once."""
        if head.why and head.status == JobStatus.IN_QUEUE and head.why not in self._told:
            self._told.add(head.why)
            _write(f"{_line(self.label, '', head.why)}\n")

    def _show_build(self, head: messages.EnvState) -> None:
        if head.phase in ("resolve", "build"):
            if head.env not in self._building:
                self._building[head.env] = time.monotonic()
                _write(f"{_line(self.label, '', 'building its environment …')}\n")
            if head.line:
                _write(f"{_line(self.label, '', head.line)}\n")
        elif (began := self._building.pop(head.env, None)) is not None:
            ready = f"environment ready after {time.monotonic() - began:.1f} s"
            told = ready if head.phase == "ready" else "its environment cannot be built; the error of the job says why"
            _write(f"{_line(self.label, '', told)}\n")


def _shown(stream: Stream, attempt: int) -> int:
    """How many lines of that attempt the call has shown."""
    return stream.lines[1] if stream.lines[0] == attempt else 0


def short(worker: str) -> str:
    """As much of a worker's id as tells it from its neighbours."""
    return worker if len(worker) <= 8 else worker[-6:]


def _line(label: str, worker: str, text: str) -> str:
    if _layout is not None:
        return _layout(label, worker, text)
    return f"{_mark(f'{label} {short(worker)}'.rstrip())} {text}"


def _mark(text: str) -> str:
    """The mark at the start of a line, dim where there is a terminal that can."""
    if _is_terminal():
        return f"\x1b[2m[{text}]\x1b[0m"
    return f"[{text}]"


def _is_terminal() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no standard error, or a closed one
        return False


def _write(text: str) -> None:
    """One write, so that lines of several threads do not mix; a broken standard error breaks no call."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass
