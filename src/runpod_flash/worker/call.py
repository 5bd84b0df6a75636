"""One of the calls that a worker of a load-balanced endpoint runs at once, however it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CodeType
from typing import Any

from runpod_flash.worker.results import Ending


class Facts:
    """What is said of a call at its end."""

    __slots__ = ("load_us", "logs", "run_us", "stuck")

    def __init__(self, load_us: int, run_us: int, *, logs: bool, stuck: bool) -> None:
        self.load_us = load_us
        self.run_us = run_us
        self.logs = logs
        self.stuck = stuck


Finish = Callable[[Facts], bytes]
"""The last frame of a call, but for these facts."""


class Call:
    """A call as it arrived, and how it is doing. How it is read and answered is for those derived from it to say."""

    __slots__ = (
        "began", "call", "digest", "ending", "in_thread", "loaded", "name", "running", "sid", "task", "timeout_ms",
    )  # fmt: skip

    def __init__(self, head: dict[str, Any], sid: int) -> None:
        self.sid = sid
        self.call: str = head["call"]
        self.name: str = head["name"]
        self.digest: str = head["digest"]
        self.timeout_ms: int = head.get("timeout_ms", 0)
        self.task: asyncio.Task[None] | None = None
        self.ending: Ending | None = None
        self.running = False  # its task has begun: one that has not would end without a word if it were cancelled
        self.in_thread = False  # it runs plain code beside the loop, which nobody can interrupt
        self.began = self.loaded = 0

    @property
    def timed_out(self) -> bool:
        """Whether its time is over."""
        return self.ending is not None and self.ending.kind == "timeout"

    async def arguments(self, function: Callable[..., Any]) -> tuple[Any, Any]:
        """Positional and named arguments."""
        raise NotImplementedError

    async def complete(self, value: Any) -> Finish:
        """What is answered when the function gave `value`; raises what is in the way of that."""
        raise NotImplementedError

    def failed(self, error: BaseException, step: str, caller: CodeType) -> Finish:
        """What is answered when it raised, in that `step`; `caller` is the code that makes calls."""
        raise NotImplementedError
