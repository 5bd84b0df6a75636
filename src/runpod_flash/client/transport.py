"""The links of this process: one for every event loop that makes calls, ended with it.

A forked child forgets the links of its parent, and closes its copies of their sockets.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
from weakref import WeakKeyDictionary

from runpod_flash.client import child
from runpod_flash.client.link import Link

_links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
_disowned: list[Link] = []  # kept, so that nothing of them is finalised in the child


def current() -> Link:
    """The link of the running event loop; connects to nothing yet."""
    loop = asyncio.get_running_loop()
    link = _links.get(loop)
    if link is None:
        for old in [one for one in _links if one.is_closed()]:
            del _links[old]
        link = _links[loop] = Link(loop, functools.partial(_forget, loop))
    return link


def _forget(loop: asyncio.AbstractEventLoop) -> None:
    _links.pop(loop, None)


def _at_exit() -> None:
    for link in list(_links.values()):
        link.leave()
    child.end_all()


def _after_fork() -> None:
    global _links
    for link in _links.values():
        link.disown()
        _disowned.append(link)
    _links = WeakKeyDictionary()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
