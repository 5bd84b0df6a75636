"""The engine's process, from its start to its end; everything is put together here and nowhere else.

settle      session, folders, limits
lock        one engine for a data folder; whoever comes second says where the first is, and ends
open        log, store
listen      the socket and the gateway's port, then the file that says so, then the word to whoever started us
run         until told to stop, idle for long enough, replaced by another version, or orphaned (as a child)
leave       jobs, sockets, links, host, store: in this order, and the reasons are there
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from runpod_flash.daemon import leftovers, lock, settling
from runpod_flash.daemon.address import Address
from runpod_flash.daemon.connections import Link, Reception
from runpod_flash.daemon.hosts import Hosts
from runpod_flash.daemon.starter import Starter
from runpod_flash.engine.engine import Engine
from runpod_flash.engine.store.base import Store
from runpod_flash.engine.store.sqlite import open_store
from runpod_flash.errors import EngineUnavailable, FlashError
from runpod_flash.gateway import gateway, succession, token
from runpod_flash.host import strays
from runpod_flash.providers.local import LocalProvider
from runpod_flash.settings import Settings, load
from runpod_flash.wire import rundir

_new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # not on this platform: slower, otherwise the same
    import uvloop

    _new_loop = uvloop.new_event_loop

logger = logging.getLogger(__name__)

STORE: Final = "store.sqlite"
LOG: Final = "engine.log"

BACKLOG: Final = 1024
GRACE_S: Final = 5.0
"""Time for running jobs when the engine is told to stop and nobody says how long."""
CHILD_GRACE_S: Final = 1.0
LEAST_IDLE_S: Final = 1.0
"""Below this an engine could be gone before the program that started it has connected."""
FLUSH_S: Final = 2.0
HOST_S: Final = 8.0
BURY_S: Final = 3.0
HEIR_S: Final = 10.0
"""How long an engine that has handed over keeps the gateway's port for the next one."""

_PACKAGE_MARK: Final = Path(__file__).absolute().parents[1] / "_version.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an engine; its exit code."""
    options = _parse(arguments)
    starter = Starter(options.ready_fd)
    try:
        return _run(options, starter)
    except FlashError as error:
        logger.error("%s", error)
        starter.failed(error)
    except Exception as error:
        logger.exception("the engine failed")
        starter.failed(EngineUnavailable("the engine failed", why=f"{type(error).__name__}: {error}"))
    return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runpod_flash.daemon", description="Keeps jobs and starts workers.")
    parser.add_argument("--home", required=True, help="the data folder")
    parser.add_argument("--ready-fd", type=int, help="where to say that the engine is ready, or why not")
    parser.add_argument("--child", action="store_true", help="end with the program that started this one")
    parser.add_argument("--parent-fd", type=int, help="a pipe that ends with that program")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, starter: Starter) -> int:
    home = Path(options.home).absolute()
    settling.let_go()
    # The data folder stands in for a project: which folder an engine was started from must not change it.
    settings = replace(load(project=home), home=home)
    folder = settling.make_folders(home)
    locks = lock.acquire([folder, home], folder / rundir.SOCKET)
    if locks is None:
        starter.ok()
        return 0
    offer: succession.Offer | None = None
    try:
        settling.log_to(home / LOG, debug=settings.debug)
        retention = int(settings.retention_awaited * 1000), int(settings.retention_spawned * 1000)
        store = open_store(home / STORE, durability=settings.durability, retention_ms=retention)
        with contextlib.closing(store):
            daemon = Daemon(settings, folder, store, options)
            code = _in_loop(daemon, starter)
            offer = daemon.offer
    finally:
        for fd in locks:
            os.close(fd)
        leftovers.sweep(folder.parent)
    if offer is not None and not offer.wait(HEIR_S):
        logger.info("nobody came for the port")
    return code


def _in_loop(daemon: Daemon, starter: Starter) -> int:
    loop = _new_loop()
    try:
        return loop.run_until_complete(daemon.run(starter))
    finally:
        loop.close()


# ── run ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Farewell:
    """How to leave."""

    reason: str  # stop | idle | handover | signal
    stop_host: bool
    grace_s: float
    code: int = 0


class Daemon:
    """One run of the engine, with its lock held."""

    def __init__(self, settings: Settings, folder: Path, store: Store, options: argparse.Namespace) -> None:
        self._settings = settings
        self._folder = folder
        self._store = store
        self._child: bool = options.child
        self._parent_fd: int | None = options.parent_fd
        self._address = Address(settings.home, folder)
        self._package = _identity(_PACKAGE_MARK)
        self._hosts = Hosts()
        self.offer: succession.Offer | None = None
        """The gateway's port, for the next engine."""
        self._farewell: _Farewell | None = None
        self._told = asyncio.Event()

    async def run(self, starter: Starter) -> int:
        """Everything from the socket to the end."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        self._engine = engine = Engine(
            store=self._store,
            settings=self._settings,
            provider=LocalProvider(restart_engine=not self._child),
            rundir=self._folder,
            watch=self._hosts.watch,
        )
        engine.on_stop_request = self._asked
        self._reception = Reception(engine, outdated=self._outdated, hand_over=self._hand_over)
        # Whoever looks for an engine now waits in the socket's queue, and a host that waits for one does not
        # start another; they are taken in when the engine knows what the store says.
        listener = self._address.listen(BACKLOG)
        try:
            engine.start()
            self._watch_for_the_end(loop)
            server = await loop.create_unix_server(lambda: Link(self._reception), sock=listener, backlog=BACKLOG)
            await self._open_gateway()
            self._address.announce(self._gateway.url)
            starter.ok()
            # What exists now lives as long as the process: the collector need not look at it again.
            gc.collect()
            gc.freeze()
            # Every call makes some dozen objects that are gone with it, and hardly any cycle: look seldom.
            gc.set_threshold(20_000, 20, 50)
            await self._told.wait()
            return await self._leave(server)
        finally:
            listener.close()
            self._address.disappear()

    async def _open_gateway(self) -> None:
        home, settings = self._settings.home, self._settings
        key = token.open_token(home)
        listener = succession.fetch(self._folder, settings.gateway_port) or gateway.listen(home, settings.gateway_port)
        self._gateway = gateway.Gateway(self._engine, key, listener, settings)
        await self._gateway.start()
        self._engine.state.gateway_url = self._gateway.url
        self._engine.state.token_file = str(home / token.NAME)

    # ── what ends it ──────────────────────────────────────────────────────────────────────────────

    def _watch_for_the_end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        # A terminal sends these to every process of the group; as a child we end with our program, not with its
        # jobs. (Handlers, not SIG_IGN: programs that we start would inherit that.)
        loop.add_signal_handler(signal.SIGINT, _nothing if self._child else self._signalled)
        loop.add_signal_handler(signal.SIGHUP, _nothing)
        if self._parent_fd is not None:
            os.set_inheritable(self._parent_fd, False)
            loop.add_reader(self._parent_fd, self._orphaned)
        else:
            self._look_if_idle()

    def _tell(self, farewell: _Farewell) -> None:
        self._farewell = farewell
        self._told.set()

    def _asked(self, verb: str, how: dict[str, Any]) -> None:
        """By the engine: a client wants it, or the store cannot be read any more."""
        if verb == "handover":
            self._hand_over(float(how.get("grace_s", GRACE_S)))
        elif verb == "failed":
            self._tell(_Farewell("stop", stop_host=False, grace_s=0, code=1))
        else:
            grace = float("inf") if how.get("drain") else float(how.get("grace_s", GRACE_S))
            self._tell(_Farewell("stop", stop_host=True, grace_s=grace))

    def _hand_over(self, grace_s: float = GRACE_S) -> None:
        """The host and its workers stay, for the next engine; load-balanced calls go through this one, and may end."""
        self._tell(_Farewell("handover", stop_host=False, grace_s=grace_s))

    def _signalled(self) -> None:
        """The second time there is no more patience."""
        again = self._farewell is not None and self._farewell.reason == "signal"
        self._tell(_Farewell("signal", stop_host=True, grace_s=0 if again else GRACE_S))

    def _orphaned(self) -> None:
        assert self._parent_fd is not None
        asyncio.get_running_loop().remove_reader(self._parent_fd)
        self._tell(_Farewell("stop", stop_host=True, grace_s=CHILD_GRACE_S))

    def _outdated(self) -> bool:
        return _identity(_PACKAGE_MARK) != self._package

    def _look_if_idle(self) -> None:
        """Asks again when it could be long enough at the earliest, so an engine at rest hardly wakes."""
        patience = max(self._settings.idle_stop, LEAST_IDLE_S)
        since = self._engine.idle_since()
        left = patience if since is None else since + patience - time.monotonic()
        if left > 0:
            asyncio.get_running_loop().call_later(left + 0.01, self._look_if_idle)
        elif self._farewell is None:
            self._tell(_Farewell("idle", stop_host=True, grace_s=0))

    # ── leave ─────────────────────────────────────────────────────────────────────────────────────

    async def _leave(self, server: asyncio.AbstractServer) -> int:
        # Jobs first: the engine takes nothing new from its queue, lets what runs end within the grace, commits,
        # and says GOODBYE. Clients can still come meanwhile; a long drain is no reason to lose their calls.
        farewell = await self._stop_engine()
        # Hosts that were started a moment ago, and are on their way here, never hear GOODBYE. While the socket is
        # there: one that finds none would start the next engine.
        if farewell.stop_host:
            self._hosts.tell()
            if pid := self._engine.host_pid:
                self._hosts.adopt(pid)
        # Then the socket, before any link closes: who is sent away now finds nobody, and starts the next engine,
        # which waits for our lock.
        server.close()
        self._address.disappear()
        # Those who ask over HTTP as well, before the port is another engine's; who comes now waits for that.
        if farewell.reason == "handover":
            self.offer = succession.Offer(self._folder, self._gateway.listener)
        await self._gateway.close(FLUSH_S)
        # Then the links, so that GOODBYE arrives.
        await self._reception.close(FLUSH_S)
        # Then the host: the next engine's host must not meet the last one's workers.
        if farewell.stop_host:
            await self._hosts.end(HOST_S)
            # A host that was killed had no time for this, and now none follows it. Nobody is connected any more:
            # there is nothing that this could keep waiting.
            strays.bury(self._folder, BURY_S)
        self._hosts.forget()
        logger.info("left (%s)", farewell.reason)
        # The store closes when `_run` unwinds, and the lock goes last: nobody opens what we still hold.
        return farewell.code

    async def _stop_engine(self) -> _Farewell:
        """Stops the engine; whoever asks meanwhile, asks anew: a signal cuts a long drain short."""
        while True:
            self._told.clear()
            farewell = self._farewell
            assert farewell is not None
            logger.info("leaving: %s", farewell)
            stopping = asyncio.ensure_future(
                self._engine.stop(reason=farewell.reason, stop_host=farewell.stop_host, grace_s=farewell.grace_s)
            )
            told = asyncio.ensure_future(self._told.wait())
            await asyncio.wait({stopping, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            stopping.cancel()
            await asyncio.wait({stopping, told})
            if stopping.cancelled():
                continue
            if error := stopping.exception():
                logger.error("the engine did not stop in good order", exc_info=error)
            return farewell


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _nothing() -> None:
    """For signals that are not for us."""


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.error("%s", context.get("message", "a callback failed"), exc_info=context.get("exception"))
