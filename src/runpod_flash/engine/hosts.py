"""The host: started when something is to be done, watched, replaced when it is gone.

There is one at a time. It outlives the engine, so one that is on record is waited for before another is started.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from runpod_flash.engine.records import Host, Worker
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.providers.base import HostProcess, Provider
from runpod_flash.wire.messages import Beat, BeatOk, Head, Hello, Machine, Refuse, Stop

logger = logging.getLogger(__name__)

Watch = Callable[[HostProcess, Callable[[], None]], None]
"""Calls back when a host that was started here is gone."""
Answered = Callable[[list[dict[str, Any]] | None], None]
"""Gets the rows that a host was asked for; None if it went away instead."""

_LOOK_S: Final = 0.25
_REPORTS_WITHIN_S: Final = 2.0
_ADOPT_WITHIN_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_START_TRIES: Final = 3


class Hosts:
    """Sees to it that there is a host, and knows how to ask it."""

    def __init__(self, state: State, registry: Registry, provider: Provider, rundir: Path, watch: Watch) -> None:
        self._state = state
        self._registry = registry
        self._provider = provider
        self._rundir = rundir
        self._watch = watch
        self._sid = 0
        self._asked: dict[int, Answered] = {}
        self._failed_starts = 0  # hosts in a row that never came
        self._blocked_until = 0.0
        # Set by those who do it.
        self.give_up: Callable[[Worker], None] = lambda worker: None
        self.cannot_start: Callable[[str], None] = lambda why: None

    # ── asking ────────────────────────────────────────────────────────────────────────────────────

    def connected(self) -> Host | None:
        """The host, if it is there; otherwise one will be, and joins."""
        host = self._state.host
        if host is not None and host.link is not None:
            return host
        self.want()
        return None

    def next_sid(self) -> int:
        """A new stream of ours on the host's link."""
        self._sid += 2
        return self._sid

    def ask(self, request: Head, then: Answered) -> bool:
        """Asks the host for rows; False if there is none to ask."""
        host = self.connected()
        if host is None:
            return False
        sid = self.next_sid()
        self._asked[sid] = then
        self._state.turn.send(host.link, request.encode(sid=sid))
        return True

    def said(self, sid: int, rows: list[dict[str, Any]] | None) -> None:
        """The host's answer to `ask`."""
        if then := self._asked.pop(sid, None):
            then(rows)

    # ── start ─────────────────────────────────────────────────────────────────────────────────────

    def want(self) -> None:
        """Has a host started, unless there is one or one is on its way."""
        if self._state.host is not None or self._state.draining:
            return
        wait = self._blocked_until - self._state.clock.monotonic()
        if wait > 0:
            return
        name, key = secrets.token_hex(6), secrets.token_hex(16)
        try:
            process = self._provider.start(self._rundir / "s", self._state.settings.home, self._rundir, key)
        except OSError as error:
            self._start_failed(f"it cannot be started: {error}")
            return
        self._watch(process, lambda: self.died(name))
        now = self._state.clock.wall_ms()
        self._state.turn.write().add_host(name, key_hash(key), process.pid, "{}", now)
        self._state.host = Host(name, key_hash(key), process.pid, seen_at=self._state.clock.monotonic())

    def _want_again(self) -> None:
        if self._is_needed():
            self.want()

    def _is_needed(self) -> bool:
        return bool(self._state.workers) or any(pool.waiting for pool in self._state.pools.values())

    def _start_failed(self, why: str) -> None:
        """Backs off; after three hosts in a row that never came, nothing can run here."""
        logger.error("the host did not come up: %s", why)
        self._failed_starts += 1
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._failed_starts - 1))
        self._blocked_until = self._state.clock.monotonic() + pause
        self._state.call_later(pause + 0.001, self._want_again)
        if self._failed_starts % _START_TRIES == 0:
            self.cannot_start(f"the host did not come up ({_START_TRIES} tries): {why}; see logs/host.log")

    # ── recovery ──────────────────────────────────────────────────────────────────────────────────

    def recover(self) -> list[str]:
        """Takes up the host that was there when the engine ended; those that are gone are returned."""
        gone = []
        for name, key, pid in self._state.store.open_hosts():
            if self._state.host is None and is_alive(pid):
                self._state.host = Host(name, key, pid, seen_at=self._state.clock.monotonic(), came=True)
            else:
                gone.append(name)
        return gone

    def look(self) -> None:
        """Without its link a host is looked after: dead, or away for too long, it is given up."""
        host = self._state.host
        if host is None:
            if self._state.workers:
                self.want()  # it reports what became of them
            return
        if host.link is not None or self._state.draining:
            return
        away = self._state.clock.monotonic() - host.seen_at
        if not is_alive(host.pid) or away > max(_ADOPT_WITHIN_S, self._state.settings.lease):
            self.died(host.id)
        else:
            self._state.call_later(_LOOK_S, self.look)

    def is_away(self) -> bool:
        """Whether there is a host that lives and is not connected."""
        host = self._state.host
        return host is not None and host.came and host.link is None and is_alive(host.pid)

    def check_lease(self) -> None:
        """A host that says nothing for a whole lease is as good as gone, also if its link stands."""
        host = self._state.host
        if host is None or host.link is None:
            return
        if self._state.clock.monotonic() - host.seen_at > self._state.settings.lease:
            logger.warning("the host %s (pid %d) has been silent for a whole lease", host.id, host.pid)
            self.died(host.id)

    # ── coming and going ──────────────────────────────────────────────────────────────────────────

    def joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A host has connected: ours, perhaps again, or one that nobody waits for."""
        host = self._state.host
        if host is None or key_hash(hello.key) != host.key_hash:
            return Refuse(
                code="unknown_host",
                what="this engine did not start this host",
                why="another has taken its place",
            )
        if host.link is not None:
            _drop(host.link)
        host.link, host.pid = link, hello.pid
        host.machine = hello.machine or Machine(cpus=os.cpu_count() or 1, memory_mb=0)
        host.seen_at = self._state.clock.monotonic()
        host.came = True
        link.state = host
        self._failed_starts = 0
        for pool in self._state.pools.values():
            self._registry.place(pool)
        self._forget_builds()
        for presence in hello.workers:
            if (worker := self._state.workers.get(presence.worker)) is not None:
                worker.pid, worker.ports = presence.pid, dict(presence.ports)
        self._compare({presence.worker for presence in hello.workers})
        self._state.replan()
        return None

    def _compare(self, alive: set[str]) -> None:
        """Ours and the host's view of who lives; what is dead is reported soon, or given up."""
        host, workers = self._state.host, self._state.workers
        assert host is not None
        told = [worker.id for worker in workers.values() if worker.state == "stopping" and worker.id in alive]
        for name in [*told, *sorted(alive - workers.keys())]:
            self._state.turn.send(host.link, Stop(worker=name, why="stale").encode())
        missing = [worker for worker in workers.values() if worker.id not in alive]
        if missing:
            self._state.call_later(_REPORTS_WITHIN_S, self._give_up_on, missing)

    def _give_up_on(self, missing: list[Worker]) -> None:
        for worker in missing:
            if self._state.workers.get(worker.id) is worker and worker.link is None and worker.joining is None:
                self.give_up(worker)

    def left(self, link: Link) -> None:
        """The host's link is gone; it may come back."""
        host = self._state.host
        if host is not None and host.link is link:
            host.link = None
            host.seen_at = self._state.clock.monotonic()
            self._unanswered()
            self._state.call_later(_LOOK_S, self.look)

    def died(self, name: str) -> None:
        """Its workers died with it. A new host reports what each of them was doing."""
        host = self._state.host
        if host is None or host.id != name:
            return
        logger.warning("the host %s (pid %d) is gone", name, host.pid)
        link = host.link
        self._state.host = None
        self._state.turn.write().end_host(name, self._state.clock.wall_ms())
        if link is not None:
            _drop(link)
        self._unanswered()
        self._forget_builds()
        if not host.came:
            self._start_failed("it ended before it said hello")
        elif self._is_needed():
            self.want()
        self._state.replan()

    def end(self) -> None:
        """The host is told to leave for good."""
        if self._state.host is not None:
            self._state.turn.write().end_host(self._state.host.id, self._state.clock.wall_ms())

    def beat(self, link: Link, head: Beat, sid: int) -> None:
        """The host is well, and so are these workers."""
        if isinstance(link.state, Host):
            link.state.seen_at = self._state.clock.monotonic()
        stale = []
        for name, rss_kb, cpu_ms in head.workers:
            worker = self._state.workers.get(name)
            if worker is None:
                stale.append(name)
            else:
                worker.rss_kb, worker.cpu_ms = rss_kb, cpu_ms
        self._state.turn.send(link, BeatOk(stale=stale).encode(sid=sid))

    def _forget_builds(self) -> None:
        """Builds that were asked of another host, or on a link that is lost; asking again joins what still runs."""
        for environment in self._state.environments.values():
            if environment.state == "building":
                environment.state = "unknown"

    def _unanswered(self) -> None:
        asked, self._asked = self._asked, {}
        for then in asked.values():
            then(None)


def key_hash(key: str) -> str:
    """What is kept of a key that was handed out."""
    return hashlib.sha256(key.encode()).hexdigest()


def _drop(link: Link) -> None:
    link.state = None
    link.close()


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for yet is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
