"""One of the calls that a worker of a load-balanced endpoint runs at once, however it was asked for."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from types import CodeType
from typing import Any, Final, NamedTuple, Protocol

from runpod_flash.worker.results import Ending


class Facts(NamedTuple):
    """What is said of a call at its end."""

    load_us: int
    run_us: int
    logs: bool
    stuck: bool


Finish = Callable[[Facts], bytes]
"""The last frame of a call, but for these facts."""


Arguments = tuple[Any, Any]


class Call(ABC):
    """A call as it arrived, and how it is doing. How it is read and answered is for those derived from it to say."""

    drop: Sequence[str] = ()
    task: asyncio.Task[None] | None = None
    running = False  # its task has begun: one that has not would end without a word if it were cancelled
    in_thread = False  # it runs plain code beside the loop, which nobody can interrupt
    began = loaded = 0

    def __init__(self, call: str, head: Mapping[str, Any], sid: int) -> None:
        self.sid = sid
        self.call = call
        self.name: str = head["name"]
        self.digest: str = head["digest"]
        self.timeout_ms: int = head.get("timeout_ms", 0)
        self.instance: str = head.get("instance", "")
        if self.instance:
            self.drop = head.get("drop", ())
        self.ending: Ending | None = None

    @property
    def timed_out(self) -> bool:
        """Whether its time is over."""
        return self.ending is not None and self.ending.kind == "timeout"

    @abstractmethod
    def arguments(self, function: Callable[..., Any]) -> Arguments | Coroutine[Any, Any, Arguments]:
        """Positional and named arguments, at once or to be awaited."""

    @abstractmethod
    def complete(self, value: Any) -> Finish | Coroutine[Any, Any, Finish]:
        """What is answered when the function gave `value`, at once or to be awaited; raises what is in the way."""

    @abstractmethod
    def failed(self, error: BaseException, step: str, caller: CodeType) -> Finish:
        """What is answered when it raised, in that `step`; `caller` is the code that makes calls."""


class Runner(Protocol):
    """What a call asks of the worker that it runs in."""

    async def in_thread(self, call: Call, function: Callable[[], Any]) -> Any:
        """Runs plain code without keeping the others waiting."""

    def answer(self, call: Call, finish: Finish) -> None:
        """Sends the last frame of a call, and lets go of it."""

    def untime(self, call: Call) -> None:
        """However long it takes from here on, it is not ended for that."""


_LAST: Final = object()


async def stepped(call: Call, runner: Runner, generator: Generator[Any, Any, Any]) -> AsyncGenerator[Any, None]:
    """A plain generator, each step beside the loop; between two steps it can be ended."""
    try:
        while (item := await runner.in_thread(call, lambda: next(generator, _LAST))) is not _LAST:
            if call.ending is not None:  # said while it was in its thread
                raise asyncio.CancelledError
            yield item
    finally:
        await runner.in_thread(call, generator.close)
