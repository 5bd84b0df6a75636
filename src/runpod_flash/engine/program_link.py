"""Stands where the link of a native worker stands, for a program that asks for its jobs over HTTP.

What the engine sends becomes answers of polls that the program holds open, and what the program brings becomes the
frames that a native worker would send:

    START    → the answer of job-take          READY    ← the first thing that it asks
    CANCEL   → the answer of job-stop          DONE     ← job-done; or signs of life that leave the job out
    DRAIN    → polls are let go                CHUNK    ← job-stream
    GOODBYE  → polls are sent away             PROGRESS ← job-done with a status

A job is *given* when its poll was answered, and *confirmed* by the first sign that it arrived: the program names it in
a ping, or brings something of it. One that a program does not name any more has been stopped, if that was asked for;
else it never arrived, or is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from runpod_flash.engine.program_jobs import Given, Poll, job_text
from runpod_flash.engine.records import Worker
from runpod_flash.engine.state import State
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.frame import Frame, FrameReader
from runpod_flash.wire.messages import (
    Cancel,
    Chunk,
    Done,
    Drain,
    ErrorInfo,
    Goodbye,
    Head,
    Moved,
    Progress,
    Start,
    Working,
    decode,
)

MISSES: Final = 3
"""Signs of life in a row that leave a job out, until it is taken for lost."""
MOST_DROPS: Final = 5
"""How often in a row a program may be given a job and then not have it, until the job fails: it drops what it gets."""
_SETTLED_S: Final = 0.3
"""A sign of life may have been on its way when a job was given: what it leaves out then says nothing."""
STOP_GRACE_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Batch:
    """The answer of a poll that is yet to be put together, because of inputs that lie in files."""

    poll: Poll
    jobs: list[Start] = field(default_factory=list)
    inputs: list[Sequence[Any]] = field(default_factory=list)


class ProgramLink:
    """One program that runs. `read` gives a part that lies in a file to a callback, later."""

    def __init__(
        self,
        state: State,
        worker: Worker,
        *,
        receive: Callable[[ProgramLink, Frame], None],
        left: Callable[[ProgramLink], None],
        read: Callable[[Sequence[bytes], list[Moved], Callable[[Sequence[Any] | None], None]], None],
        ask: Callable[[Worker, int], None],
    ) -> None:
        self.role = "worker"
        self.pid = worker.pid
        self.state: Any = worker
        self.given: dict[str, Given] = {}
        self.away = False  # the engine has left, or begins anew: nothing that is said here counts
        self.leaving = False  # it is being ended: what it asks is answered soon, with nothing
        self._engine = state
        self._worker = worker
        self._receive = receive
        self._left = left
        self._read = read
        self._ask = ask
        self._reader = FrameReader()
        self._takers: list[Poll] = []
        self._stoppers: list[Poll] = []
        self._to_stop: list[str] = []
        self._dropped: dict[str, int] = {}  # jobs that were given and are not there → how often
        self._closed = False
        now = state.clock.monotonic()
        for active in worker.inflight:  # from before the engine was started
            self.given[active.job] = Given(active, now)

    @property
    def is_held(self) -> bool:
        """Whether it waits for us, over a connection that stands."""
        return bool(self._takers or self._stoppers)

    # ── what the engine sends ─────────────────────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Takes frames as a worker would."""
        starts: list[tuple[Start, Sequence[bytes]]] = []
        for message in self._reader.feed(data):
            head = decode(message)
            if isinstance(head, Start):
                starts.append((head, message.parts))
            elif isinstance(head, Cancel):
                self._cancel(head)
            elif isinstance(head, Drain):
                self.leaving = True
                self._let_go(later=False)
            elif isinstance(head, Goodbye):
                self.away = True
                self._let_go(later=not head.stop_host)
        if starts:
            self._give(starts)

    def close(self) -> None:
        """The engine forgets this worker, or begins anew."""
        if not self._closed:
            self._closed = self.away = True
            self._let_go(later=True)
            self._left(self)

    def _let_go(self, *, later: bool) -> None:
        polls = [*self._takers, *self._stoppers]
        self._takers.clear()
        self._stoppers.clear()
        self._worker.room = 0
        for poll in polls:
            if later:
                poll.later()
            else:
                poll.nothing()

    # ── jobs out ──────────────────────────────────────────────────────────────────────────────────

    def _give(self, starts: Sequence[tuple[Start, Sequence[bytes]]]) -> None:
        """Answers a poll with jobs; without one, because the program has just hung up, they go back."""
        now = self._engine.clock.monotonic()
        actives = {active.job: active for active in self._worker.inflight}
        for start, _parts in starts:
            if active := actives.get(start.job):
                self.given[start.job] = Given(active, now)
        if not self._takers:
            for start, _parts in starts:
                self._give_back(start.job)
            return
        self.tell_host()
        batch = _Batch(self._takers.pop(0))
        self._offer()
        for start, parts in starts:
            self._fetch(batch, start, parts, len(starts))

    def _fetch(self, batch: _Batch, start: Start, parts: Sequence[bytes], wanted: int) -> None:
        def fetched(whole: Sequence[Any] | None) -> None:
            batch.jobs.append(start)
            batch.inputs.append(whole if whole is not None else ())
            if len(batch.jobs) == wanted:
                self._answer(batch)

        if start.blobs:
            self._read(parts, start.blobs, fetched)
        else:
            fetched(parts)

    def _answer(self, batch: _Batch) -> None:
        texts = []
        for start, parts in zip(batch.jobs, batch.inputs, strict=True):
            given = self.given.get(start.job)
            if given is None:
                continue  # ended meanwhile
            if not parts:
                self._finish(given, ErrorInfo(type="BlobError", message="its input is gone", kind=ErrorKind.BIND))
                continue
            given.at = self._engine.clock.monotonic()
            texts.append(job_text(start, parts))
        if not texts:
            batch.poll.nothing()
        elif batch.poll.room == 1 and len(texts) == 1:
            batch.poll.answer(texts[0])
        else:
            batch.poll.answer(b"[" + b",".join(texts) + b"]")

    def take(self, poll: Poll, *, idle: bool) -> None:
        """The program asks for jobs. `idle`: it says that it has none."""
        if idle:
            for given in list(self.given.values()):
                self._is_gone(given)
        if self.leaving or self._closed:
            return
        self._takers.append(poll)
        self._offer()

    def drop(self, poll: Poll) -> None:
        """A poll was answered otherwise, or its client is gone."""
        if poll in self._stoppers:
            self._stoppers.remove(poll)
        if poll in self._takers:
            self._takers.remove(poll)
            self._worker.room = self._takers[0].room if self._takers else 0

    def _offer(self) -> None:
        self._ask(self._worker, self._takers[0].room if self._takers else 0)

    # ── stop ──────────────────────────────────────────────────────────────────────────────────────

    def watch_stops(self, poll: Poll) -> None:
        """The program waits to hear which of its jobs to stop."""
        if self.leaving or self._closed:
            return
        self._stoppers.append(poll)
        self._tell_stops()

    def stop(self, job: str, kind: str) -> None:
        """One of its jobs shall end. It does not say when that has happened."""
        given = self.given.get(job)
        if given is not None and not given.stopping:
            given.stopping, given.stop_at = kind, self._engine.clock.monotonic()
            given.misses = 0
            self._to_stop.append(job)
            self._tell_stops()

    def _cancel(self, head: Cancel) -> None:
        given = self.given.get(head.job)
        if given is not None and given.active.epoch == head.epoch and head.cause != "stale":
            self.stop(head.job, ErrorKind.CANCELLED)

    def _tell_stops(self) -> None:
        if self._to_stop and self._stoppers:
            jobs, self._to_stop = self._to_stop, []
            self._stoppers.pop(0).answer(msgspec.json.encode({"jobsToStop": jobs}))

    # ── signs of life ─────────────────────────────────────────────────────────────────────────────

    def ping(self, jobs: Collection[str]) -> None:
        """The program lives, and has these jobs."""
        now = self._engine.clock.monotonic()
        for given in list(self.given.values()):
            if given.active.job in jobs:
                self.confirm(given)
            elif not given.finishing and now - given.at > _SETTLED_S:
                given.misses += 1
                if given.misses >= (1 if given.stopping and given.confirmed else MISSES):
                    self._is_gone(given)

    def confirm(self, given: Given) -> None:
        """It is certain that the program has the job."""
        given.misses = 0
        if not given.confirmed:
            given.confirmed = True
            given.active.begun_at = given.active.begun_at or given.at

    def _is_gone(self, given: Given) -> None:
        """The program has a job no more, and has brought no result."""
        if given.finishing:
            return
        if given.stopping == ErrorKind.TIMEOUT:
            seconds = given.active.timeout_ms / 1000
            message = f"the attempt took longer than its timeout of {seconds:g} s"
            self._finish(given, ErrorInfo(type="TimeoutError", message=message, kind=ErrorKind.TIMEOUT))
        elif given.stopping:
            message = f"cancelled: {given.active.cancelling or 'asked for'}"
            self._finish(
                given,
                ErrorInfo(type="JobCancelled", module="runpod_flash.errors", message=message, kind=ErrorKind.CANCELLED),
            )
        elif given.confirmed:
            message = "its worker lives, and does not have it any more: its result was lost"
            self._finish(
                given,
                ErrorInfo(type="WorkerLost", module="runpod_flash.errors", message=message, kind=ErrorKind.LOST),
            )
        else:
            self._was_dropped(given)

    def _was_dropped(self, given: Given) -> None:
        """It never arrived; or the program throws it away unseen, as one without a handler does, and always would."""
        job = given.active.job
        times = self._dropped[job] = self._dropped.get(job, 0) + 1
        if times < MOST_DROPS:
            self._give_back(job)
            return
        message = (
            f"its worker took it {times} times, and then neither had it nor brought a result:"
            f" the worker's output says why (flash logs --endpoint {given.active.fn.pool.endpoint.spec.name})"
        )
        self._finish(given, ErrorInfo(type="JobDropped", message=message, kind=ErrorKind.LOAD))

    def _give_back(self, job: str) -> None:
        if given := self.given.get(job):
            message = "it did not arrive at its worker"
            self._finish(given, ErrorInfo(type="Released", message=message, kind=ErrorKind.RELEASED))

    # ── jobs in ───────────────────────────────────────────────────────────────────────────────────

    def progress(self, given: Given, value: Any) -> None:
        """How far a job is."""
        self.confirm(given)
        self._say(Progress(job=given.active.job, value=value))

    def item(self, given: Given, text: bytes) -> None:
        """A job has yielded something."""
        self.confirm(given)
        if given.chunks < 0:
            given.chunks = self._engine.store.chunk_count(given.active.job)
        n, given.chunks = given.chunks, given.chunks + 1
        self._say(Chunk(n=n, job=given.active.job, epoch=given.active.epoch), (text,))

    def done(
        self, given: Given, *, output: Sequence[bytes] = (), blobs: Sequence[Moved] = (), error: ErrorInfo | None = None
    ) -> None:
        """A job has ended: with an output, an error, or both."""
        self.confirm(given)
        run_us = int((self._engine.clock.monotonic() - given.at) * 1e6)
        self._finish(given, error, output, blobs, run_us)

    def _finish(
        self,
        given: Given,
        error: ErrorInfo | None,
        output: Sequence[bytes] = (),
        blobs: Sequence[Moved] = (),
        run_us: int = 0,
    ) -> None:
        self.given.pop(given.active.job, None)
        if error is None or error.kind != ErrorKind.RELEASED:
            self._dropped.pop(given.active.job, None)
        if given.active.job in self._to_stop:
            self._to_stop.remove(given.active.job)
        head = Done(
            job=given.active.job,
            epoch=given.active.epoch,
            ok=error is None,
            values=len(output),
            encoding="json",
            blobs=list(blobs),
            run_us=run_us,
            logs=True,
            error=error,
        )
        self._say(head, output)
        self.tell_host()

    def tell_host(self) -> None:
        """Whose the program's output is from now on."""
        if (host := self._engine.host) is not None:
            jobs = [(given.active.job, given.active.attempt) for given in self.given.values()]
            self._engine.turn.send(host.link, Working(worker=self._worker.id, jobs=jobs).encode())

    def _say(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        self._receive(self, Frame(head.KIND, 0, 0, head.body(), tuple(parts)))
