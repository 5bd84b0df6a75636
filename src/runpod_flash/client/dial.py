"""A socket to the engine, for an event loop: at once if an engine answers, else a thread finds or starts one."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from runpod_flash.client import launch
from runpod_flash.errors import EngineUnavailable
from runpod_flash.settings import Settings
from runpod_flash.wire import door

STOPPED_PATIENCE: Final = 10.0
"""Seconds that calls wait for an engine to come back that was stopped on purpose (`flash engine restart`)."""

AWAY_S: Final = 60.0
"""How long calls from a worker wait for an engine that is away."""
_PAUSE_S: Final = 0.05


async def dial(settings: Settings, left: str) -> socket.socket:
    """A connected socket. `left` is why the last engine said that it leaves, "" if it said nothing.

    An engine that was stopped on purpose is not started again behind the back of who stopped it. One that makes room
    for another version is given time: its successor is somebody else's to start.
    """
    if (way := door.here()) is not None:
        return await _in_thread(partial(_through, way))
    where = launch.place(settings)
    if not left and (found := launch.try_connect(where.home)):
        return found
    start = left != "stop"
    patience = STOPPED_PATIENCE if left in ("stop", "handover") else 0.0
    try:
        return await _in_thread(partial(launch.connect, where, start=start, patience=patience))
    except EngineUnavailable as error:
        if start:
            raise
        raise EngineUnavailable(
            "the engine was stopped while calls were waiting",
            why="jobs that it had acknowledged are kept, and go on when it is started again",
            fix="flash engine start, then look at them with: flash jobs",
        ) from error


def _through(way: door.Door, cancelled: threading.Event) -> socket.socket:
    """Out of a worker. While there is no engine its host has one started, or ends."""
    end = time.monotonic() + AWAY_S
    while time.monotonic() < end and not cancelled.is_set():
        if found := way.open():
            return found
        cancelled.wait(_PAUSE_S)
    raise EngineUnavailable(
        f"the engine was away for {AWAY_S:.0f} s",
        why="a call from a worker goes through its host, which has no connection either",
        fix="flash engine status, and look at engine.log in the data folder",
    )


async def _in_thread(connect: Callable[..., socket.socket]) -> socket.socket:
    """The work of `connect` in a thread that nobody waits for, neither a loop that ends nor the interpreter."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[socket.socket] = loop.create_future()
    cancelled = threading.Event()

    def finish(found: socket.socket | None, error: BaseException | None) -> None:
        if not done.done():
            if found is not None:
                done.set_result(found)
            elif error is not None:
                done.set_exception(error)
        elif found is not None:
            found.close()

    def run() -> None:
        found: socket.socket | None = None
        problem: BaseException | None = None
        try:
            found = connect(cancelled=cancelled)
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            problem = error
        try:
            loop.call_soon_threadsafe(finish, found, problem)
        except RuntimeError:  # the loop is closed
            if found is not None:
                found.close()

    try:
        threading.Thread(target=run, name="flash-start", daemon=True).start()
    except RuntimeError:  # the interpreter is ending, and starts no threads any more: then it is this one that waits
        run()
    try:
        return await done
    finally:
        cancelled.set()
