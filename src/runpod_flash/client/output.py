"""What jobs print, and what they wait for, on the caller's standard error, line by line as it comes.

Never on standard output: that belongs to the user's program.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Final

from runpod_flash.client.session import Stream
from runpod_flash.model.job import JobStatus
from runpod_flash.wire import messages

PATIENCE: Final = 1.0
"""Seconds a call may wait for something before we say for what."""


def notice(text: str) -> None:
    """A word to the user of this program."""
    _write(f"{_mark('flash')} {text}\n")


_said: set[str] = set()


def notice_once(text: str) -> None:
    """A word to the user that would only be noise the second time."""
    if text not in _said:
        _said.add(text)
        notice(text)


class Watch:
    """Shows what comes for the calls of one function; one serves all calls of it on a link."""

    def __init__(self, label: str, loop: asyncio.AbstractEventLoop) -> None:
        self.label = label
        self._loop = loop
        self._building: dict[str, float] = {}
        self._waiting: dict[Stream, tuple[float, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[str] = set()

    def __call__(self, stream: Stream, head: Any) -> None:
        if isinstance(head, messages.Log):
            self._show_log(head)
        elif isinstance(head, messages.State):
            self._note_state(stream, head)
        elif isinstance(head, messages.EnvState):
            self._show_build(head)

    def _show_log(self, head: messages.Log) -> None:
        mark = _mark(f"{self.label} {short(head.worker)}")
        _write("".join(f"{mark} {line}\n" for line in head.lines))

    def _show_build(self, head: messages.EnvState) -> None:
        mark = _mark(self.label)
        if head.phase in ("resolve", "build"):
            if head.env not in self._building:
                self._building[head.env] = time.monotonic()
                _write(f"{mark} building its environment …\n")
            if head.line:
                _write(f"{mark} {head.line}\n")
        elif (began := self._building.pop(head.env, None)) is not None and head.phase == "ready":
            _write(f"{mark} environment ready after {time.monotonic() - began:.1f} s\n")

    def _note_state(self, stream: Stream, head: messages.State) -> None:
        """Remembers what a call waits for; most waits are over before anybody would want to read of them."""
        if not head.why or head.status != JobStatus.IN_QUEUE:
            self._waiting.pop(stream, None)
            return
        since, _ = self._waiting.get(stream, (time.monotonic(), ""))
        self._waiting[stream] = since, head.why
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE, self._tell)

    def _tell(self) -> None:
        self._timer = None
        now = time.monotonic()
        for stream, (since, why) in list(self._waiting.items()):
            if stream.future is None or stream.future.done():
                del self._waiting[stream]
            elif now - since >= PATIENCE * 0.95:
                del self._waiting[stream]
                if why not in self._told:
                    self._told.add(why)
                    _write(f"{_mark(self.label)} waits: {why}\n")
        if self._waiting:
            self._timer = self._loop.call_later(PATIENCE, self._tell)


def short(worker: str) -> str:
    """As much of a worker's id as tells it from its neighbours."""
    return worker if len(worker) <= 8 else worker[-6:]


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
