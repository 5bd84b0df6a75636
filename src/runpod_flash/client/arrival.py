"""How a link comes up: it finds an engine, greets it, and tells it what the last one knew.

Engines may end meanwhile, or make room for another: then there is the next one, unless that goes on for too long.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from runpod_flash import settings as settings_
from runpod_flash._version import __version__
from runpod_flash.client import output
from runpod_flash.client.dial import dial
from runpod_flash.client.session import error_of
from runpod_flash.errors import EngineError, EngineUnavailable
from runpod_flash.wire import door, kinds, messages

if TYPE_CHECKING:
    from runpod_flash.client.link import Link

HELLO_SECONDS: Final = 15.0
PERSISTENCE: Final = 30.0
"""Seconds for which engines that end during their hello are followed by another try."""


class Leaving(Exception):
    """The engine makes room for another one."""


class LinkLost(Exception):
    """The connection ended while the link was coming up."""


class Arrival:
    """Brings a link up, as often as it goes down while somebody needs it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._coming: asyncio.Task[None] | None = None
        self._greeting: asyncio.Future[messages.Welcome] | None = None
        self._asked_for_room = False
        self.goodbye = ""
        """Why the last engine said that it leaves."""

    def begin(self) -> asyncio.Task[None]:
        """Brings the link up, unless that is under way."""
        if self._link.closing:
            raise EngineUnavailable("this event loop is ending", fix="make calls before it ends")
        if self._coming is None or self._coming.done():
            self._coming = self._link.loop.create_task(self._come_up_or_tell(), name="flash-link")
            # Everybody who needs to know is told through a future of their own.
            self._coming.add_done_callback(seen)
        return self._coming

    async def give_up(self) -> None:
        """The loop is ending."""
        if self._coming is not None and not self._coming.done():
            self._coming.cancel()
            await asyncio.wait({self._coming})

    def take(self, kind: int, head: Any) -> None:
        """A frame of the link itself, perhaps the answer to HELLO."""
        if kind == kinds.GOODBYE:
            self.goodbye = head.reason
        elif self._greeting is not None and not self._greeting.done():
            if kind == kinds.WELCOME:
                self._greeting.set_result(head)
            elif kind == kinds.REFUSE and head.handover:
                self.goodbye = "handover"
                self._greeting.set_exception(Leaving())
            elif kind in (kinds.REFUSE, kinds.ERROR):
                self._greeting.set_exception(error_of(head))

    async def _come_up_or_tell(self) -> None:
        try:
            await self._connect_again_and_again()
        except asyncio.CancelledError:
            self._link.tell_all(
                EngineUnavailable(
                    "the program was ending before there was an engine",
                    why="its event loop was closed while calls waited to be sent",
                    fix="await the calls before the program ends",
                )
            )
            raise
        except Exception as error:
            self._link.tell_all(error)
            raise

    async def _connect_again_and_again(self) -> None:
        end = self._link.loop.time() + PERSISTENCE
        pause = 0.01
        while True:
            try:
                await self._connect()
                return
            except Leaving:
                await self._gone()
            except LinkLost:
                if self._link.loop.time() > end:
                    raise EngineUnavailable(
                        f"for {PERSISTENCE:.0f} s every engine ended right after its start",
                        fix="flash engine status, and look at engine.log in the data folder",
                    ) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)

    async def _connect(self) -> None:
        link = self._link
        left, self.goodbye = self.goodbye, ""
        sock = await dial(link.settings, left)
        self._greeting = link.loop.create_future()
        link.connected(sock, _hello())
        await link.watch_end_of_loop()
        link.welcome = await self._greeted()
        if _newer(__version__, link.welcome.version) and not self._asked_for_room:
            await self._hand_over(link.welcome.version)
        await self._declare_held()
        link.is_up()

    async def _greeted(self) -> messages.Welcome:
        assert self._greeting is not None
        lost = self._link.lost
        await first_of(self._greeting, lost, timeout=HELLO_SECONDS)
        if self._greeting.done():
            return self._greeting.result()
        if lost.done():
            raise LinkLost
        self._link.abort()
        raise EngineUnavailable(
            f"the engine did not say hello within {HELLO_SECONDS:.0f} s", fix="flash engine restart"
        )

    async def _hand_over(self, version: str) -> None:
        """An engine older than us makes room for one of ours; its jobs, hosts and workers stay."""
        self._asked_for_room = True
        try:
            await self._link.ask_now(messages.Admin(verb="handover"))
        except EngineError as error:
            output.notice(f"the engine is of version {version}, this program of {__version__}: {error.what}")
            return
        self.goodbye = self.goodbye or "handover"
        raise Leaving

    async def _gone(self) -> None:
        """Waits until an engine that is leaving has left."""
        await asyncio.wait({self._link.lost}, timeout=HELLO_SECONDS)
        self._link.abort()
        # Somebody has to start the next one, and that is us: nobody else may be there.
        self.goodbye = ""

    async def _declare_held(self) -> None:
        """What the last engine knew of us, this one shall know too: it keeps workers for those who hold functions."""
        link = self._link
        in_use = link.bindings_in_use()
        for key, binding in list(link.bindings.items()):
            if not binding.held:
                continue
            try:
                await link.declare(binding)
            except EngineError as error:
                binding.held = False
                del link.bindings[key]
                if binding in in_use:
                    link.tell_all(error, binding)


def _hello() -> bytes:
    if door.here() is not None:
        return b""  # the host has said hello for this worker
    return messages.Hello(
        proto_min=kinds.PROTO_MIN,
        proto_max=kinds.PROTO_MAX,
        role="client",
        version=__version__,
        pid=os.getpid(),
        base_env=settings_.inherited(),
    ).encode()


async def first_of(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    """Waits until one of them is done, or the time over."""
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def seen(task: asyncio.Task[Any]) -> None:
    """Looks at a task's exception, which somebody else reports."""
    if not task.cancelled():
        task.exception()


def _newer(ours: str, theirs: str) -> bool:
    return _numbers(ours) > _numbers(theirs)


def _numbers(version: str) -> list[int]:
    return [int(piece) for piece in version.split("+")[0].split(".") if piece.isdigit()]
