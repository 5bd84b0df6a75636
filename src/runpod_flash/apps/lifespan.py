"""The lifespan of one ASGI app within another: begun when it is loaded, ended with the whole."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.types import ASGIApp, Message


class LifespanFailed(Exception):
    """The app said that it cannot start, or raised."""


class Lifespan:
    """Speaks the lifespan protocol with one app, in a task of its own: what it enters, it leaves there."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        """What the app wants to find in every request."""
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="lifespan of an example")

    @classmethod
    async def begin(cls, app: ASGIApp) -> Lifespan:
        """Returns when the app has started; LifespanFailed says why it has not."""
        lifespan = cls(app)
        lifespan._inbox.put_nowait({"type": "lifespan.startup"})
        try:
            await lifespan._started
        except BaseException:
            lifespan._task.cancel()
            await asyncio.gather(lifespan._task, return_exceptions=True)
            raise
        return lifespan

    async def end(self) -> None:
        """Returns when the app has cleaned up."""
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({stopped, self._task}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self._task.cancel()
        await asyncio.gather(stopped, self._task, return_exceptions=True)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._inbox.get, self._send)
        except Exception as error:  # noqa: BLE001 - the user's own code
            if not self._started.done():
                self._started.set_exception(LifespanFailed(f"{type(error).__name__}: {error}"))
        finally:
            self._stopped.set()
            with contextlib.suppress(asyncio.InvalidStateError):
                self._started.set_result(None)  # an app without a lifespan returns, or does not answer at all

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self._started.done():
            self._started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._started.done():
            self._started.set_exception(LifespanFailed(_last_line(message.get("message", "")) or "its startup failed"))
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            self._stopped.set()


def _last_line(traceback: str) -> str:
    """Of what Starlette sends as the reason: the error itself."""
    return (traceback.strip().splitlines() or [""])[-1]
