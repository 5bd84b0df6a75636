"""One turn of the engine's loop: everything that arrived is decided, committed once, and then answered.

No frame leaves before the commit of the turn that caused it, but for those that rest on nothing written. With
durability `power`, frames that promise something wait for one group sync in a thread as well, while the loop goes on.

A commit that fails is a restart inside the process: who asked in this turn is told, memory is dropped and read
again from the store, by the same code as at start. So a full disk and a crash are one tested path.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

from runpod_flash.engine.store.base import Store
from runpod_flash.errors import StoreError
from runpod_flash.wire import kinds, messages

logger = logging.getLogger(__name__)

_SHRINK_AT: Final = 64 * 1024 * 1024
_COMMITS_BETWEEN_LOOKS: Final = 32


class Addressee(Protocol):
    """Somebody who is told something once it is committed."""

    def send(self, data: bytes) -> None:
        """Sends; does nothing if the peer is gone."""


class Link(Addressee, Protocol):
    """A connection as the engine sees it. `state` is the engine's own to set."""

    role: str
    pid: int
    state: Any

    def close(self) -> None:
        """Ends the connection once everything sent has gone out; nothing more is received."""


class Turn:
    """Collects what a turn writes and sends."""

    def __init__(
        self,
        store: Store,
        *,
        call_soon: Callable[[Callable[[], None]], object],
        call_soon_threadsafe: Callable[[Callable[[], None]], object],
        on_failure: Callable[[StoreError], None],
    ) -> None:
        self._store = store
        self._call_soon = call_soon
        self._call_soon_threadsafe = call_soon_threadsafe
        self._on_failure = on_failure
        self._power = store.durability == "power"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flash-store")
        self._checkpointing = False
        self._commits = 0
        # Per turn.
        self._armed = False
        self._writing = False
        self._frames: list[tuple[Addressee, bytes]] = []
        self._addressees: set[Addressee] = set()  # of these
        self._promises: list[tuple[Addressee, bytes]] = []
        self._asked: list[tuple[Link, int]] = []
        self._after: list[Callable[[], None]] = []
        # Promises of earlier turns: those that the sync covers which runs now, and those of the next one.
        self._syncing: list[tuple[Addressee, bytes]] = []
        self._unsynced: list[tuple[Addressee, bytes]] = []

    def write(self) -> Store:
        """The store, inside this turn's transaction."""
        if not self._writing:
            self._store.begin()
            self._writing = True
            if not self._armed:
                self._arm()
        return self._store

    def send(self, link: Addressee | None, data: bytes) -> None:
        """Sends after the commit; to nobody if there is no link."""
        if link is not None:
            self._frames.append((link, data))
            self._addressees.add(link)
            if not self._armed:
                self._arm()

    def pass_on(self, link: Addressee | None, data: bytes) -> None:
        """Sends what rests on nothing that is written: at once, if nothing that this turn has collected goes before it.

        For somebody with nothing else under way; what many send at once is better collected, and written together.
        """
        if link in self._addressees:
            self.send(link, data)
        elif link is not None:
            link.send(data)

    def promise(self, link: Addressee | None, data: bytes) -> None:
        """Sends after the commit, and with durability `power` after the sync."""
        if link is not None:
            if self._power:
                self._promises.append((link, data))
            else:
                self._frames.append((link, data))
                self._addressees.add(link)
            if not self._armed:
                self._arm()

    def asked(self, link: Link, sid: int) -> None:
        """Remembers a request, to be told if this turn cannot be committed."""
        self._asked.append((link, sid))
        if not self._armed:
            self._arm()

    def after(self, action: Callable[[], None]) -> None:
        """Runs `action` once this turn is committed."""
        self._after.append(action)
        if not self._armed:
            self._arm()

    @property
    def syncs(self) -> bool:
        """Whether promises wait for the disk."""
        return self._power

    def fail(self, error: StoreError) -> None:
        """Undoes the turn, tells who asked, and has memory read again.

        Promises of earlier turns are forgotten too: what they would have told is read from the store when their
        addressees come back.
        """
        logger.error("the turn failed: %s", error)
        self._store.rollback()
        asked = self._asked
        self._forget()
        head = messages.Error(
            code=error.code, what=error.what, why=error.why or "", fix=error.fix or "", retry_after_ms=1000
        )
        for link, sid in asked:
            if sid:
                link.send(head.encode(sid=sid, flags=kinds.END | kinds.FAILED))
        self._on_failure(error)

    def finish(self) -> None:
        """Commits and sends what the turn collected."""
        self._armed = False
        if self._writing:
            try:
                self._store.commit()
            except StoreError as error:
                self.fail(error)
                return
            self._writing = False
            self._commits += 1
            if self._commits % _COMMITS_BETWEEN_LOOKS == 0:
                self._look_after_log()
        self._asked.clear()
        frames, self._frames = self._frames, []
        self._addressees.clear()
        _send_all(frames)
        if self._promises:
            self._unsynced += self._promises
            self._promises = []
            self._sync()
        if self._after:
            actions, self._after = self._after, []
            for action in actions:
                action()

    def in_thread(self, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """Runs `work` in the store's reading thread and `then` with its result or error in the loop."""

        def run() -> None:
            try:
                result, error = work(), None
            except Exception as caught:  # noqa: BLE001  (handed to `then`, which answers whoever asked)
                result, error = None, caught
            self._call_soon_threadsafe(lambda: then(result, error))

        self._thread.submit(run)

    def close(self) -> None:
        """Commits what is left, keeps every promise, and ends the thread."""
        self.finish()
        self._thread.shutdown(wait=True)
        left = self._syncing + self._unsynced
        self._syncing, self._unsynced = [], []
        if left:
            self._store.log.sync()
            _send_all(left)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _arm(self) -> None:
        self._armed = True
        self._call_soon(self.finish)

    def _forget(self) -> None:
        self._writing = False
        self._frames, self._promises, self._asked, self._after = [], [], [], []
        self._addressees.clear()
        self._unsynced = []

    def _sync(self) -> None:
        if not self._syncing and self._unsynced:
            self._syncing, self._unsynced = self._unsynced, []
            self.in_thread(self._store.log.sync, self._synced)

    def _synced(self, _result: object, error: Exception | None) -> None:
        covered, self._syncing = self._syncing, []
        if error is None:
            _send_all(covered)
            self._sync()
        else:
            self.fail(
                StoreError(
                    "the store cannot be synced to the disk",
                    why=str(error),
                    fix="look after the disk; calls are acknowledged again when it answers",
                )
            )

    def _look_after_log(self) -> None:
        if self._store.log.size() > _SHRINK_AT:
            self._store.log.shrink()
        elif not self._checkpointing and self._store.log.wants_checkpoint():
            self._checkpointing = True
            self.in_thread(self._store.log.checkpoint, self._checkpointed)

    def _checkpointed(self, _result: object, _error: Exception | None) -> None:
        """Nearly all has been moved, and commits went on meanwhile: what is left is moved between two turns."""
        self._checkpointing = False
        self.finish()
        self._store.log.end_checkpoint()


def _send_all(frames: list[tuple[Addressee, bytes]]) -> None:
    """Sends frames in order, those of one link together: one system call for each link."""
    if len(frames) == 1:
        link, data = frames[0]
        link.send(data)
        return
    by_link: dict[Addressee, list[bytes]] = {}
    for link, data in frames:
        by_link.setdefault(link, []).append(data)
    for link, datas in by_link.items():
        link.send(datas[0] if len(datas) == 1 else b"".join(datas))
