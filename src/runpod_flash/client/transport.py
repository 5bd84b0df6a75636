"""The links of this process: one for every event loop that makes calls, ended with it.

A forked child forgets the links of its parent, and closes its copies of their sockets.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from runpod_flash.client import child, environment
from runpod_flash.client.link import Link
from runpod_flash.errors import UsageError, call_site
from runpod_flash.wire import door

IN_WORKER: Final = "FLASH_WORKER_ID"
"""Set by the host in the environment of every worker."""
EXIT_SECONDS: Final = 1.0
"""How long the end of the interpreter waits for a loop that runs in a thread."""

_links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
_latest: Link | None = None
"""The one that was asked for last: nearly always the one that is asked for next."""
_disowned: list[Link] = []  # kept, so that nothing of them is finalised in the child


def current() -> Link:
    """The link of the running event loop; connects to nothing yet."""
    global _latest
    loop, latest = asyncio.get_running_loop(), _latest
    if latest is not None and latest.loop is loop:
        return latest
    link = _links.get(loop)
    if link is None:
        if door.here() is None:
            _check_may_call()
        for closed in [one for one in _links if one.is_closed()]:
            _links.pop(closed).leave()
        link = _links[loop] = Link(loop, functools.partial(_forget, loop))
    _latest = link
    return link


def _check_may_call() -> None:
    """Refuses calls of a project that is only looked at, and of what a worker's function has started.

    That is no worker, and has no way to the engine; one that it started itself would be a second engine, with a queue
    that nobody looks at.
    """
    if environment.is_only_looked_at():
        raise UsageError(
            "a remote function was called while its project was imported",
            where=call_site(),
            why="a build imports a project only to see what it declares; it runs nothing of it",
            fix='put what is to run as a program under: if __name__ == "__main__":',
        )
    if worker := os.environ.get(IN_WORKER):
        raise UsageError(
            f"a remote function was called from a process that worker {worker} started",
            where=call_site(),
            why="only the worker itself has a connection to the engine",
            fix="make the call in the remote function, outside of multiprocessing and the like",
        )


def _forget(loop: asyncio.AbstractEventLoop) -> None:
    global _latest
    if _links.pop(loop, None) is _latest:
        _latest = None


def _at_exit() -> None:
    for loop, link in list(_links.items()):
        if loop.is_running():  # in a daemon thread; its socket is not ours to write to from here
            with suppress(Exception):
                asyncio.run_coroutine_threadsafe(link.give_up(), loop).result(EXIT_SECONDS)
        else:
            link.leave()
    child.end_all()


def _after_fork() -> None:
    global _latest, _links
    for link in _links.values():
        link.disown()
        _disowned.append(link)
    _latest, _links = None, WeakKeyDictionary()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
