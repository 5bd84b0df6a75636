"""Whom to tell, by HTTP, that a job has ended: on record in the transaction that ends the job, until it was told.

Who does the telling (the gateway) asks what is due, and says how each try went. So an engine that dies between the
end of a job and its telling, or between two tries, goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from runpod_flash.engine.dispatcher import args_head
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.http_jobs import HttpJobs, Told
from runpod_flash.engine.state import State
from runpod_flash.wire import blobs, frame
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.messages import Outcome

_SLICE: Final = 100


class Due(NamedTuple):
    """Somebody to be told of a job, from that wall clock millisecond on, after so many tries."""

    job: str
    url: str
    at_ms: int
    tries: int


class Webhooks:
    """Keeps who is to be told of what."""

    def __init__(self, state: State, followers: Followers, jobs: HttpJobs) -> None:
        self.on_due: Callable[[], None] = lambda: None  # somebody is to be told
        self.pending = 0  # how many are to be told, now or later
        self._state = state
        self._followers = followers
        self._jobs = jobs
        jobs.announce = self._add

    def recover(self) -> None:
        """Goes on with those on record."""
        self.pending = self._state.store.webhooks_pending()
        for job in self._state.store.webhooks_ahead():
            self._followers.watch(job, self._ended)

    def due(self) -> list[Due]:
        """The next to be told, those whose time has not come included."""
        return [Due(*row) for row in self._state.store.webhooks_due(_SLICE)]

    def now_ms(self) -> int:
        """The clock by which they are due."""
        return self._state.clock.wall_ms()

    def news(self, due: Due, then: Callable[[tuple[Told, Buffer] | None], None]) -> None:
        """Calls back with how a job ended, and its input as JSON text; with None if there is nothing to tell."""

        def found(news: tuple[Told, Buffer] | None, error: Exception | None) -> None:
            then(news)
            if error is not None:
                self.tried(due, None, f"what it came to cannot be read: {error}")

        self._state.turn.in_thread(lambda: self._read(due.job), found)

    def tried(self, due: Due, again_ms: int | None, error: str) -> None:
        """How a try went: it was told (no error), will be tried again at that time, or is given up."""
        self._jobs.guarded(lambda: self._tried(due, again_ms, error))

    def _tried(self, due: Due, again_ms: int | None, error: str) -> None:
        if not self._state.turn.write().webhook_tried(due.job, again_ms, due.tries + 1, error):
            return  # the job has been tried again meanwhile, and will be told of at its next end
        if again_ms is None:
            self.pending -= 1
            if error:
                facts = {"url": due.url, "tries": due.tries + 1, "error": error}
                self._state.event("webhook_given_up", facts, job=due.job)
        self._state.turn.after(self.on_due)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _add(self, job: str, url: str) -> None:
        store = self._state.turn.write()
        if store.add_webhook(job, url):
            self.pending -= 1  # of the end before this attempt, which nobody was told of
        self._followers.watch(job, self._ended)

    def _ended(self, head: Outcome, _parts: Sequence[Buffer]) -> None:
        """Inside the turn that ends the job."""
        self._state.turn.write().webhook_due(head.job, self._state.clock.wall_ms())
        self.pending += 1
        self._state.turn.after(self.on_due)

    def _read(self, job: str) -> tuple[Told, Buffer] | None:
        """Runs in the reading thread."""
        rows: list[dict[str, Any]] = self._state.store.read("SELECT * FROM jobs WHERE id = ? AND state >= 4", (job,))
        if not rows:
            return None
        told = self._jobs.told(rows[0])
        if told.outcome is not None and told.outcome.encoding == "json" and (told.outcome.blobs or told.outcome.chunks):
            told = told._replace(output=self._jobs.output(told.outcome))
        parts: Sequence[Buffer] = frame.unpack_parts(rows[0]["args"])
        moved = args_head(rows[0]["args_head"]).blobs
        return told, blobs.gather(self._state.settings.home / "blobs", parts, moved)[0]
