"""Jobs over HTTP: what the gateway asks of the queue, whoever runs them.

A job that came over HTTP is a job like any other, in the same table and the same states. It differs in what it is
made of: `encoding` is "json", part 0 of its arguments is the input as JSON text, part 1, where there is one, what
else was said of it that a worker shall see (a JSON object), and its value is one part, JSON text as well. Nothing of
that is opened here.

Whoever asks is an `Addressee`: `send` is called with the body of the answer once what it says is on record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from runpod_flash.engine.dispatcher import args_head
from runpod_flash.engine.followers import Followers
from runpod_flash.engine.http_endpoints import HttpEndpoints
from runpod_flash.engine.http_facts import HttpFacts
from runpod_flash.engine.outcomes import outcome_of
from runpod_flash.engine.programs import Programs
from runpod_flash.engine.purge import Done
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Active, Endpoint, Function
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.state import State
from runpod_flash.engine.store.rows import StoredChunk
from runpod_flash.engine.streams import Streams, chunk_head
from runpod_flash.engine.turn import Addressee
from runpod_flash.errors import EngineRefused, FlashError, QueueFull
from runpod_flash.model.job import LOW_PRIORITY, JobPolicy, JobState, JobStatus
from runpod_flash.wire import blobs, frame, kinds
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.messages import Moved, Outcome, Position, Submit

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TAKES_TIME: Final = kinds.INLINE_LIMIT
_ITEMS_AT_ONCE: Final = 1000
_LOOK_S: Final = 0.1
"""Who waits for a time is answered so much later at most."""


class Asked(NamedTuple):
    """A job as somebody asked for it. `more` is a JSON object of what else its worker shall see, or empty."""

    id: str
    input: bytes
    policy: JobPolicy
    more: bytes = b""
    webhook: str = ""


class Told(NamedTuple):
    """How a job stands. Times in milliseconds; `output` is JSON text; `outcome` only if it has ended."""

    id: str
    status: str
    attempt: int = 0
    worker: str = ""
    delay_ms: int = 0
    run_ms: int = 0
    output: Buffer | None = None
    outcome: Outcome | None = None
    why: str = ""  # what it waits for, if that is anything special


Answer = Callable[[Told], bytes]
"""Makes the body of an answer of how a job stands."""
ItemsAnswer = Callable[[Told, Sequence[Buffer]], bytes]
"""The same with what it has yielded, each as JSON text."""


class Asker(Addressee, Protocol):
    """Who asks, and waits for an answer."""

    gone: Callable[[], None]
    """Called when nobody waits any more."""

    def fail(self, error: FlashError) -> None:
        """There is none, and why."""

    def vanish(self) -> None:
        """There will be none: whoever asked is to be told by somebody else, or gone."""


class HttpJobs:
    """The queue's face towards the gateway."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        queue: Queue,
        followers: Followers,
        streams: Streams,
        guarded: Callable[[Callable[[], None]], None],
        programs: Programs,
        endpoints: HttpEndpoints,
    ) -> None:
        self.held: set[Asker] = set()
        self.programs = programs  # the workers among those who ask
        self.guarded = guarded  # runs what may meet a store that fails
        self.facts = HttpFacts(state)
        self.managed = endpoints
        # Set by those who do it.
        self.cancel_job: Callable[[str, str], None] = lambda job, cause: None
        self.purge: Callable[[dict[str, Any], Done], None] = lambda wanted, done: None
        self.announce: Callable[[str, str], None] = lambda job, url: None  # its end, to whoever listens there
        self._state = state
        self._registry = registry
        self._queue = queue
        self._followers = followers
        self._streams = streams
        self._blobs = state.settings.home / "blobs"
        self._waits: dict[_Wait, None] = {}
        self._looking = False

    def clear(self) -> None:
        """Memory is being read anew from the store: who waits has to ask again."""
        held, self.held = self.held, set()
        self._waits.clear()
        for asker in held:
            asker.fail(
                EngineRefused("the engine begins anew from its store", why="it could not write", fix="ask again")
            )

    # ── who is asked ──────────────────────────────────────────────────────────────────────────────

    @property
    def draining(self) -> bool:
        """The engine is about to leave, and takes nothing new."""
        return self._state.draining

    def endpoints(self) -> list[Endpoint]:
        """All endpoints with a queue."""
        return [one for one in self._state.endpoints.values() if one.spec.kind == "queue"]

    def named(self, name: str) -> Sequence[Endpoint]:
        """Those of this id, or of this name, load-balanced ones too."""
        return self._registry.named(name)

    def promise(self, asker: Asker, answer: bytes) -> None:
        """Answers once everything of this turn is on record."""
        self._state.turn.promise(asker, answer)

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────

    def submit(
        self, fn: Function, asked: Asked, asker: Asker, then: Callable[[], None], *, awaited: bool = False
    ) -> None:
        """Puts a job on record, and calls `then` in the same turn. QueueFull.

        A large input goes into a file first, in another thread. `awaited`: it is kept as results of awaited calls are.
        """
        parts = (asked.input, asked.more) if asked.more else (asked.input,)
        if len(asked.input) + len(asked.more) <= _TAKES_TIME:
            self._enter(fn, asked, parts, [], awaited)
            then()
            return

        def spill() -> tuple[list[Buffer], list[Moved]]:
            sync = self._state.store.durability == "power"
            return blobs.spill(parts, lambda part: blobs.write(self._blobs, part, sync=sync))

        def enter(parts: list[Any], moved: list[Moved]) -> None:
            try:
                self._enter(fn, asked, parts, moved, awaited)
            except QueueFull as error:
                asker.fail(error)
            else:
                then()

        self._elsewhere(spill, lambda spilled: enter(*spilled), asker)

    def _elsewhere(self, work: Callable[[], T], then: Callable[[T], None], asker: Asker) -> None:
        """Reads or writes a file in another thread."""

        def done(result: T | None, error: Exception | None) -> None:
            if result is not None:
                self.guarded(lambda: then(result))
            else:
                logger.warning("a value could not be moved: %s", error)
                asker.fail(EngineRefused("the value of a job could not be moved", why=str(error)))

        self._state.turn.in_thread(work, done)

    def _enter(self, fn: Function, asked: Asked, parts: Sequence[bytes], moved: list[Moved], awaited: bool) -> None:
        head = Submit(job=asked.id, fn=fn.id, policy=asked.policy, wait=awaited, encoding="json", blobs=moved)
        if fn.spec.yields:
            head.wait, head.stream = False, Position()  # what it yields is kept for whoever reads it
        if asked.policy.priority <= LOW_PRIORITY:
            self._state.of_low_priority.add(fn.pool.id)
        self._queue.enter(fn, head, parts)
        if asked.webhook:
            self.announce(asked.id, asked.webhook)

    def accept(self, fn: Function, asked: Asked, asker: Asker, answer: bytes) -> None:
        """Puts a job on record, and says so."""
        self.submit(fn, asked, asker, lambda: self._state.turn.promise(asker, answer))

    def tell(self, endpoint: Endpoint, job: str, asker: Asker, answer: Answer) -> bool:
        """Says how a job of an endpoint stands; False if it has none of that id."""
        row = self._row(endpoint, job)
        if row is None:
            return False
        self._promise(asker, self.told(row), answer)
        return True

    def _row(self, endpoint: Endpoint, job: str) -> dict[str, Any] | None:
        row = self._state.store.told(job) if job else None
        if row is None:
            return None
        pool = self._state.pools.get(row["pool_id"])
        return row if pool is not None and pool.endpoint is endpoint else None

    def wait(self, endpoint: Endpoint, job: str, asker: Asker, answer: Answer, seconds: float) -> bool:
        """Says how a job stands once it has ended, or after so many seconds; False if there is none."""
        row = self._row(endpoint, job)
        if row is None:
            return False
        if JobState(row["state"]).is_terminal:
            self._promise(asker, self.told(row), answer)
        else:
            self.follow(job, asker, answer, seconds)
        return True

    def follow(self, job: str, asker: Asker, answer: Answer, seconds: float) -> None:
        """The same for a job that is known not to have ended."""
        wait = _Wait(self, job, asker, answer, self._state.clock.monotonic() + seconds)
        self._waits[wait] = None
        if not self._looking:
            self._looking = True
            self._state.call_later(_LOOK_S, self._look)
        asker.gone = wait.leave
        self._followers.watch(job, wait.ended)

    def _look(self) -> None:
        """One timer for all who wait: each would have to be set and cancelled for every job."""
        now = self._state.clock.monotonic()
        self._answer([one for one in self._waits if one.until <= now])
        self._looking = bool(self._waits)
        if self._looking:
            self._state.call_later(_LOOK_S, self._look)

    def answer_all(self) -> None:
        """The engine leaves: who waits is told where the job stands, and can ask the next engine for it."""
        self._answer(list(self._waits))

    def _answer(self, waits: Sequence[_Wait]) -> None:
        for wait in waits:
            self.leave(wait)
            if row := self._state.store.told(wait.job):
                self._promise(wait.asker, self.told(row), wait.answer)

    def leave(self, wait: _Wait) -> None:
        """Nobody waits for that any more."""
        if self._waits.pop(wait, self) is None:
            self._followers.unwatch(wait.job, wait.ended)

    def end(self, wait: _Wait, head: Outcome, parts: Sequence[Buffer]) -> None:
        """What was waited for has come."""
        self._waits.pop(wait, None)
        told = _ended(head, _value(head, parts))
        if head.encoding != "json" and (row := self._state.store.told(head.job)) is not None:
            told = self.told(row)  # its JSON view, if there is one, is in its row alone
        self._promise(wait.asker, told, wait.answer)

    def cancel(self, endpoint: Endpoint, job: str, asker: Asker, answer: Answer, seconds: float) -> bool:
        """Ends a job, and says so once it has ended, or after so many seconds; False if there is none.

        One that has ended already stays as it is.
        """
        row = self._row(endpoint, job)
        if row is None:
            return False
        if not JobState(row["state"]).is_terminal:
            self.follow(job, asker, answer, seconds)
            self.cancel_job(job, "asked for over HTTP")
        else:
            self._promise(asker, self.told(row), answer)
        return True

    def retry(self, endpoint: Endpoint, job: str, asker: Asker, answer: bytes) -> str:
        """Runs a job that ended without success once more. Its status as it was; "" if there is none."""
        row = self._state.store.job(job) if self._row(endpoint, job) is not None else None
        if row is None:
            return ""
        if self._queue.again(row):
            if url := self._state.store.webhook(job):
                self.announce(job, url)
            self._state.turn.promise(asker, answer)
        return JobState(row["state"]).status

    def items(self, endpoint: Endpoint, job: str, asker: Asker, answer: ItemsAnswer, first: int | None) -> bool:
        """What a job has yielded that nobody was given yet, or, read without giving it away, from `first` on.

        False if there is no such job.
        """
        row = self._row(endpoint, job)
        if row is None:
            return False
        told, store = self.told(row), self._state.store
        begin = (row["given"] or 0) if first is None else first
        json = bool(row["args_head"]) and args_head(row["args_head"]).encoding == "json"
        rows = store.chunks(job, begin, _ITEMS_AT_ONCE) if json else []
        if rows and first is None:
            store = self._state.turn.write()
            store.give(job, begin + len(rows))
            self._streams.was_read(job)
        turn = self._state.turn
        if any(one.head is not None for one in rows):
            work = partial(self._gathered, rows)
            turn.after(lambda: self._elsewhere(work, lambda items: asker.send(answer(told, items)), asker))
        else:
            turn.promise(asker, answer(told, [frame.unpack_parts(one.body)[0] for one in rows]))
        return True

    def _gathered(self, rows: Sequence[StoredChunk]) -> list[Buffer]:
        """Items as JSON text, those in files read. Runs in the reading thread."""
        found: list[Buffer] = []
        for one in rows:
            (part, *_), moved = frame.unpack_parts(one.body), chunk_head(one).blobs
            found.append(blobs.read(self._blobs, moved[0][1], moved[0][2]) if moved else part)
        return found

    def told(self, row: dict[str, Any]) -> Told:
        """How the job of a row stands."""
        state = JobState(row["state"])
        if state.is_terminal:
            head, parts = outcome_of(row)
            return _ended(head, _value(head, parts) or row["out_json"] or None)
        live = self._state.active.get(row["id"])
        if live is None:
            pool = self._state.pools.get(row["pool_id"])
            return Told(row["id"], state.status, row["attempt"], why=pool.why if pool is not None else "")
        return self._live(live, row)

    def _live(self, live: Active, row: dict[str, Any]) -> Told:
        begun = bool(live.begun_at)
        status = JobStatus.IN_PROGRESS if begun else JobStatus.IN_QUEUE
        now = self._state.clock.monotonic()
        run_ms = int((now - live.begun_at) * 1000) if begun else 0
        delay_ms = max(0, self._state.clock.wall_ms() - run_ms - live.created_ms)
        return Told(live.job, status, live.attempt, row["worker"] or "", delay_ms, run_ms, live.progress or None)

    def _promise(self, asker: Asker, told: Told, answer: Answer) -> None:
        """Answers, with a value that lies in a file read in another thread."""
        head, turn = told.outcome, self._state.turn
        if head is None or head.encoding != "json" or not (head.blobs or head.chunks):
            turn.promise(asker, answer(told))
            return

        def read() -> bytes:
            return answer(told._replace(output=self.output(head)))

        # After the commit: with durability `power` the thread syncs before it reads.
        turn.after(lambda: self._elsewhere(read, asker.send, asker))

    def output(self, head: Outcome) -> Buffer | None:
        """The value of a job that came over HTTP, where it is not in its row. Runs in the reading thread."""
        if head.chunks:
            rows = self._state.store.read("SELECT n, head, body FROM chunks WHERE job = ? ORDER BY n", (head.job,))
            items = self._gathered([StoredChunk(**row) for row in rows])
            return b"".join((b"[", b",".join(items), b"]"))
        (_index, blob, size), *_ = head.blobs
        return blobs.read(self._blobs, blob, size)


class _Wait:
    """Somebody who waits for the end of a job."""

    __slots__ = ("answer", "asker", "job", "jobs", "until")

    def __init__(self, jobs: HttpJobs, job: str, asker: Asker, answer: Answer, until: float) -> None:
        self.jobs = jobs
        self.job = job
        self.asker = asker
        self.answer = answer
        self.until = until

    def ended(self, head: Outcome, parts: Sequence[Buffer]) -> None:
        self.jobs.end(self, head, parts)

    def leave(self) -> None:
        self.jobs.leave(self)


def _value(head: Outcome, parts: Sequence[Buffer]) -> Buffer | None:
    """The value as JSON text, if there is one: parts may be those of an exception, or of a pickled value."""
    return parts[0] if head.encoding == "json" and head.values else None


def _ended(head: Outcome, output: Buffer | None) -> Told:
    started = head.started_at_ms
    run_ms = head.run_us // 1000 if head.run_us else max(0, head.ended_at_ms - started) if started else 0
    return Told(head.job, head.status, head.attempts, head.worker, head.delay_ms, run_ms, output, head)
