"""The event loop of a worker that has many calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from runpod_flash.worker.selector import ReadingSelector

T = TypeVar("T")


class EventLoop(asyncio.SelectorEventLoop):
    """One on which a call can begin at once.

    A task takes its first step when the loop comes to it. For a short call the way there (a handle, the queue, a turn)
    is as long as all that the call does itself, and what has just been read waits for nobody.
    """

    _first_step: Callable[[], object] | None = None
    _catching = False

    def __init__(self, selector: ReadingSelector) -> None:
        self._waits = selector
        super().__init__(selector)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that has taken its first step; for where no task runs, as while descriptors are asked for."""
        self._catching = True
        try:
            task = asyncio.Task(coroutine, loop=self)  # which asks for its first step with `call_soon`
        finally:
            self._catching = False
        step, self._first_step = self._first_step, None
        if step is not None:
            step()
        return task

    def call_soon(  # type: ignore[override]  # of the handle of a first step there is no use
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        """As of any loop, but for the first step of a task that begins at once."""
        if not self._catching:
            self._waits.awaited = True
            return super().call_soon(callback, *args, context=context)
        assert context is not None
        self._catching = False
        self._first_step = partial(context.run, callback, *args)
        return None

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As of any loop, which now has to wait for less long, perhaps."""
        self._waits.awaited = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        """As of any loop."""
        self._waits.awaited = True
        super().stop()
