"""How far a job is, said from inside it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from runpod_flash.errors import UsageError, call_site
from runpod_flash.wire import frame, kinds
from runpod_flash.worker.context import CURRENT

LONGEST: Final = 64 * 1024
"""Bytes that a value may have as JSON."""
PAUSE_S: Final = 0.1
"""From one value that is passed on to the next; of those between only the last is, and of all of them the last is."""


def progress(value: object) -> None:
    """Says how far the job is: its caller sees a line at once, and `handle.progress()` and `flash job` the last value.

    `value` is a text, a number or anything that JSON has, up to 64 KiB; other things are taken as they print. Said
    more than ten times a second, only the latest counts. Outside of a job, as in a function that is called with
    `local=True`, and in one that is load-balanced, which is no job, it is a line on standard error and no more.
    """
    text = _json(value)
    if len(text) > LONGEST:
        raise UsageError(
            f"progress() was given {len(text):,} bytes",
            where=call_site(),
            why=f"it is for a few words about the job, at most {LONGEST // 1024} KiB of JSON",
            fix="yield it, or return it",
        )
    if REPORTER is None:
        _tell(text)
    else:
        REPORTER.say(text)


class Reporter:
    """Passes on what the job that runs says: the latest, some times a second. Any of its threads may say it."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.job = ""
        self.spoke = False
        """Whether the job has said anything, so that `end` has to be called."""
        self._send = send
        self._lock = threading.Lock()
        self._waiting: str | None = None
        self._sent_at = 0.0

    def say(self, text: str) -> None:
        """Passes on a value, now or in a moment."""
        context = CURRENT.get()
        if not self.job or (context is not None and context.job != self.job):
            return  # a thread or task that an earlier job has left
        with self._lock:
            timed = self._waiting is not None
            self.spoke, self._waiting = True, text
            left = self._sent_at + PAUSE_S - time.monotonic()
            if left <= 0:
                self._pass_on()
            elif not timed:
                timer = threading.Timer(left, self._in_time, (self.job,))
                timer.daemon = True
                timer.start()

    def end(self) -> None:
        """The job is over: its last word goes before its result."""
        with self._lock:
            self._pass_on()
            self.job, self.spoke, self._sent_at = "", False, 0.0

    def _in_time(self, job: str) -> None:
        with self._lock:
            if self.job == job:
                self._pass_on()

    def _pass_on(self) -> None:
        if self._waiting is not None:
            text, self._waiting = self._waiting, None
            self._sent_at = time.monotonic()
            self._send(frame.encode(kinds.PROGRESS, f'{{"job":{json.dumps(self.job)},"value":{text}}}'.encode()))
            _tell(text)


REPORTER: Reporter | None = None
"""That of this process, if it is a worker of a queue."""


def _tell(text: str) -> None:
    value = json.loads(text)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    sys.stderr.write(f"progress: {' '.join(shown.split())}\n")
    sys.stderr.flush()


def _json(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(str(value))
