"""Start-up and shutdown of an application, as ASGI tells them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

from runpod_flash.worker.application.loading import Asgi, Message, trace_of
from runpod_flash.worker.failing import CannotStart

ASGI: Final = {"version": "3.0", "spec_version": "2.4"}


class Lifespan:
    """Runs beside the requests, from before the first until after the last."""

    def __init__(self, application: Asgi, target: str) -> None:
        self.state: dict[str, Any] = {}
        """What the application has put aside at its start: every request gets a copy."""
        self.application = application
        self._target = target
        self._said: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the application is ready; CannotStart if it says that it will not be."""
        scope = {"type": "lifespan", "asgi": ASGI, "state": self.state}
        self._task = asyncio.create_task(self.application(scope, self._said.get, self._answered.put))  # type: ignore[arg-type]
        answer = await self._tell("lifespan.startup")
        if answer is None:
            error = self._task.exception() if not self._task.cancelled() else None
            self._task = None
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise CannotStart(f"the application {self._target} ended at its start: {error!r}")
            return  # one that knows nothing of this protocol says so by raising, or by returning
        if answer["type"] == "lifespan.startup.failed":
            await asyncio.wait([self._task])
            raised = self._task.exception() if not self._task.cancelled() else None
            why = str(answer.get("message", "")).rstrip() or (trace_of(raised) if raised else "it gave no reason")
            raise CannotStart(f"{why}\nthe application {self._target} failed at its start (lifespan)")

    async def stop(self) -> None:
        """Returns when the application has put everything in order. It has as long as its worker."""
        if self._task is None:
            return
        answer = await self._tell("lifespan.shutdown")
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            sys.stderr.write(f"the application {self._target} failed at its end: {answer.get('message', '')}\n")
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            sys.stderr.write(f"{trace_of(error)}\nthe application {self._target} failed at its end\n")

    async def _tell(self, event: str) -> Message | None:
        """Its answer; None if it ends without one."""
        assert self._task is not None
        await self._said.put({"type": event})
        answer = asyncio.create_task(self._answered.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done() or not self._answered.empty():
            return await answer
        answer.cancel()
        return None
