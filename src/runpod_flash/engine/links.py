"""Who is connected: programs, the host, and workers. Each comes with a HELLO, and may come again after it is gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from runpod_flash._version import __version__
from runpod_flash.engine.fleet import Fleet
from runpod_flash.engine.hosts import Hosts, key_hash
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.records import Host, Worker
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.turn import Link
from runpod_flash.wire.messages import Hello, Refuse, Welcome

_BEAT_MS: Final = 2000  # what `flash ps` shows is not older

Keeper = Callable[[Link], object]
"""Forgets what it keeps for a program that is gone."""


class Links:
    """The connections that have said HELLO and were welcome."""

    def __init__(
        self,
        state: State,
        hosts: Hosts,
        fleet: Fleet,
        programs: Programs,
        *,
        keepers: Sequence[Keeper],
        guarded: Callable[[Callable[[], None]], None],
    ) -> None:
        self._state = state
        self._hosts = hosts
        self._fleet = fleet
        self._programs = programs
        self._keepers = keepers
        self._guarded = guarded
        self._links: set[Link] = set()
        self.left_at = state.clock.monotonic()
        """When the last program left, in steady seconds; before any has, the start."""

    # ── coming ────────────────────────────────────────────────────────────────────────────────────

    def welcome(self, proto: int) -> Welcome:
        """What HELLO is answered with."""
        store, settings = self._state.store, self._state.settings
        lease = int(settings.lease * 1000)
        return Welcome(
            proto=proto,
            engine=store.engine_id,
            start_no=store.start_no,
            version=__version__,
            pid=os.getpid(),
            data_dir=str(settings.home),
            blob_dir=str(settings.home / "blobs"),
            durability=store.durability,
            lease_ms=lease,
            beat_ms=min(lease // 3, _BEAT_MS),
            max_value=settings.max_value,
        )

    def client_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A program has connected, or the host of a worker, for calls from inside of it."""
        worker = self._state.workers.get(hello.worker) if hello.worker else None
        if hello.worker and (worker is None or key_hash(hello.key) != worker.key_hash):
            return Refuse(code="unknown_worker", what=f"no worker {hello.worker!r} of that key is on record")
        link.state = Client(since_ms=self._state.clock.wall_ms(), worker=worker)
        self._links.add(link)
        return None

    def host_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """A host has connected, perhaps again."""
        if self._state.clock.monotonic() < self._state.resume_at:
            # With `handover`, for without it a host takes a refusal for good, and its workers with it. They bring
            # results at once, which must not meet a full disk over and over.
            return Refuse(code="store_unavailable", what="the store could not be written just now", handover=True)
        refused = self._joined(link, hello, self._hosts.joined)
        self._programs.host_came()
        return refused

    def worker_joined(self, link: Link, hello: Hello) -> Refuse | None:
        """The stream of a worker has been opened."""
        return self._joined(link, hello, self._fleet.joined)

    def _joined(self, link: Link, hello: Hello, join: Callable[[Link, Hello], Refuse | None]) -> Refuse | None:
        self._links.add(link)
        refused = join(link, hello)
        if refused is not None:
            self._links.discard(link)
        return refused

    # ── going ─────────────────────────────────────────────────────────────────────────────────────

    def left(self, link: Link) -> None:
        """A link is gone; what it asked for runs on."""
        self._links.discard(link)
        if isinstance(link.state, Client):
            for forget in self._keepers:
                forget(link)
            self.left_at = self._state.clock.monotonic()
        elif isinstance(link.state, Worker):
            self._guarded(lambda: self._fleet.left(link))
        elif isinstance(link.state, Host):
            self._hosts.left(link)
        link.state = None
        self._state.replan()

    def close_all(self) -> None:
        """What is remembered of them is about to be forgotten; everybody comes again."""
        links, self._links = self._links, set()
        for link in links:
            link.state = None
            link.close()

    def send_all(self, frame: bytes) -> None:
        """Tells everybody."""
        for link in list(self._links):
            link.send(frame)

    # ── who is there ──────────────────────────────────────────────────────────────────────────────

    def programs(self) -> int:
        """How many are connected; workers are here for them, also where they call."""
        return sum(1 for each in self._links if isinstance(each.state, Client) and each.state.worker is None)

    def oldest_client_ms(self) -> int | None:
        """Since when the first of those that are connected is, in wall milliseconds; None if there is none."""
        clients = [link.state.since_ms for link in self._links if isinstance(link.state, Client)]
        return min(clients, default=None)
