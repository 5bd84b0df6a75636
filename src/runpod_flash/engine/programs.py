"""Programs of the user's own as workers of a queue: who asks over HTTP, and whether they live.

Each has a `ProgramLink`, and behind that it is a worker like any other: one dispatcher, one queue, one set of states.
Nothing here knows of HTTP; the gateway brings what a program says, and holds its polls.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from runpod_flash._version import __version__
from runpod_flash.engine.dispatcher import Dispatcher
from runpod_flash.engine.hosts import key_hash
from runpod_flash.engine.program_jobs import SYNC, Given
from runpod_flash.engine.program_link import STOP_GRACE_S, ProgramLink
from runpod_flash.engine.records import Pool, Worker
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Addressee, Link
from runpod_flash.errors import EngineRefused, FlashError
from runpod_flash.model.job import ErrorKind
from runpod_flash.settings import OPTIONS
from runpod_flash.wire import blobs, kinds
from runpod_flash.wire.frame import Buffer, Frame
from runpod_flash.wire.messages import ErrorInfo, Hello, Moved, Ready, Refuse

logger = logging.getLogger(__name__)

SILENCE_S: Final = 30.0
"""Without a sign of life for so long, a program is ended: it says something every second."""
PROVEN_S: Final = 10.0
"""A program that has been there for so long did not fail at its start."""
START_LIMIT_S: Final = 420.0
"""Until it asks for its first job; RUNPOD_INIT_TIMEOUT among its variables says otherwise."""


_AROUND: Final = 64 * 1024
"""Bytes that an output may have beyond that: braces, names and quotes around one that has just the size."""


class Teller(Addressee, Protocol):
    """Who brings something, and waits until it is on record."""

    def fail(self, error: FlashError) -> None:
        """It is not."""


class Programs:
    """The engine's face towards what programs ask."""

    def __init__(
        self,
        state: State,
        dispatcher: Dispatcher,
        *,
        join: Callable[[Link, Hello], Refuse | None],
        receive: Callable[[Link, Frame], None],
        left: Callable[[Link], None],
        guarded: Callable[[Callable[[], None]], None],
    ) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._join = join
        self._receive = receive
        self._left = left
        self._guarded = guarded
        self._blobs = state.settings.home / "blobs"

    # ── who asks ──────────────────────────────────────────────────────────────────────────────────

    def worker(self, name: str, key: str) -> Worker | None:
        """The worker of that id, if that is its key."""
        worker = self._state.workers.get(name)
        if worker is None or not worker.pool.asks:
            return None
        if not hmac.compare_digest(key_hash(key), worker.key_hash):
            return None
        worker.heard_at = self._state.clock.monotonic()
        return worker

    def link(self, worker: Worker, key: str) -> ProgramLink | None:
        """Its link, made with the first thing that it asks; None if the engine does not take it just now."""
        if isinstance(worker.link, ProgramLink):
            return worker.link
        link = ProgramLink(
            self._state,
            worker,
            receive=self._receive,
            left=lambda link: self._state.call_later(0, self._left, link),
            read=self._read,
            ask=self._dispatcher.offer,
        )
        hello = Hello(
            proto_min=kinds.PROTO_MIN,
            proto_max=kinds.PROTO_MAX,
            role="worker",
            version=__version__,
            pid=worker.pid,
            worker=worker.id,
            key=key,
        )
        if self._join(link, hello) is not None:
            return None
        held = [(given.active.job, given.active.epoch) for given in link.given.values()]
        head = Ready(worker=worker.id, held=held, fresh=not worker.ready_at)
        self._receive(link, Frame(head.KIND, 0, 0, head.body(), ()))
        link.tell_host()
        return link if worker.link is link else None

    def host_came(self) -> None:
        """A host is connected, perhaps again: it has to know whose the output of each program is."""
        for worker in self._state.workers.values():
            if isinstance(worker.link, ProgramLink):
                worker.link.tell_host()

    def ping(self, worker: Worker, key: str, jobs: Sequence[str]) -> None:
        """A sign of life. One that still starts is not ready for having given it."""
        if worker.ready_at and (link := self.link(worker, key)) is not None:
            link.ping(set(jobs))

    def unwell(self, worker: Worker, check: str, reason: str) -> None:
        """A program says that it is about to end, because a check of its own failed."""
        worker.complaint = f"its check {check!r} failed: {reason}"
        logger.warning("worker %s: %s", worker.id, worker.complaint)

    # ── results ───────────────────────────────────────────────────────────────────────────────────

    def done(
        self, link: ProgramLink, given: Given, output: bytes | None, error: ErrorInfo | None, teller: Teller
    ) -> None:
        """A job has ended, and its teller hears when that is on record. A large output goes into a file first."""
        limit = self._limit_of(given)
        if output and len(output) > limit[0]:
            error, output = too_large(len(output), limit), None
        given.finishing = True
        text, sync = output or b"", self._state.store.durability == "power"
        if len(text) <= kinds.INLINE_LIMIT:
            self._finish(link, given, (text,) if text else (), (), error)
            self.acknowledge(link, teller)
            return

        def spill() -> tuple[list[Buffer], list[Moved]]:
            return blobs.spill((text,), lambda part: blobs.write(self._blobs, part, sync=sync))

        def spilled(result: Any, failure: Exception | None) -> None:
            parts, moved = result if failure is None else ((), ())
            worse = error if failure is None else _not_kept(failure)

            def finish() -> None:
                self._finish(link, given, parts, moved, worse)
                self.acknowledge(link, teller)

            self._guarded(finish)

        self._state.turn.in_thread(spill, spilled)

    def _limit_of(self, given: Given) -> tuple[int, str]:
        """Bytes that an output may have, and the variable that says so."""
        name = "runsync_body" if given.active.job.startswith(SYNC) else "run_body"
        settings = self._state.settings
        return min((getattr(settings, one) + _AROUND, OPTIONS[one].variable) for one in (name, "max_value"))

    def _finish(
        self,
        link: ProgramLink,
        given: Given,
        output: Sequence[bytes],
        moved: Sequence[Moved],
        error: ErrorInfo | None,
    ) -> None:
        pool: Pool = given.active.fn.pool
        pool.failed_starts, pool.last_error = 0, ""
        if link.given.get(given.active.job) is given:
            link.done(given, output=output, blobs=moved, error=error)

    def acknowledge(self, link: ProgramLink, teller: Teller) -> None:
        """What was said is on record, as soon as this turn is committed."""
        if link.away:  # it met a failure: memory is being read anew from the store
            teller.fail(EngineRefused("the engine could not record that", fix="send it again"))
        else:
            self._state.turn.promise(teller, b'{"recorded":true}')

    def refresh(self, worker: Worker) -> None:
        """A program wants to be replaced by a fresh one."""
        self._dispatcher.drain(worker, "refresh")

    def _read(self, parts: Sequence[bytes], moved: list[Moved], then: Callable[[Sequence[Any] | None], None]) -> None:
        def read() -> Sequence[Any]:
            return blobs.gather(self._blobs, parts, moved)

        def done(result: Sequence[Any] | None, error: Exception | None) -> None:
            if error is not None:
                logger.warning("the input of a job cannot be read: %s", error)
            self._guarded(lambda: then(result))

        self._state.turn.in_thread(read, done)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    def check_times(self, worker: Worker, now: float) -> None:
        """Stops jobs that take too long, and ends a program that does not stop them, or says nothing any more."""
        if worker.state == "stopping":
            return
        if not worker.ready_at:
            if now > worker.launched_at + _start_limit(worker):
                self._dispatcher.stop(worker, "it does not start")
            return
        link = worker.link
        if not worker.heard_at or (isinstance(link, ProgramLink) and link.is_held):  # 0: it is older than the engine
            worker.heard_at = now
        if now > worker.heard_at + SILENCE_S:
            logger.warning("worker %s has said nothing for %.0f s", worker.id, SILENCE_S)
            self._dispatcher.stop(worker, "silent")
            return
        if worker.pool.failed_starts and now > worker.ready_at + PROVEN_S:
            worker.pool.failed_starts, worker.pool.last_error = 0, ""
        if isinstance(link, ProgramLink):
            self._check_jobs(worker, link, now)

    def _check_jobs(self, worker: Worker, link: ProgramLink, now: float) -> None:
        for given in list(link.given.values()):
            job = given.active
            if not job.timeout_ms or now < given.at + job.timeout_ms / 1000:
                continue
            if not given.stopping:
                job.overdue = True
                link.stop(job.job, ErrorKind.TIMEOUT)
            elif given.stopping == ErrorKind.TIMEOUT and now > given.stop_at + STOP_GRACE_S:
                self._dispatcher.stop(worker, "timeout")
                return


def too_large(size: int, limit: tuple[int, str]) -> ErrorInfo:
    """An output is larger than one may be: so many bytes, says that variable."""
    most, variable = limit
    message = (
        f"its output has {size} bytes, and may have {most} ({variable}): write it to a volume, and return where it lies"
    )
    return ErrorInfo(type="OutputTooLarge", message=message, kind=ErrorKind.ENCODE)


def _not_kept(error: Exception) -> ErrorInfo:
    return ErrorInfo(type="EngineError", message=f"its output could not be kept: {error}", kind=ErrorKind.ENCODE)


def _start_limit(worker: Worker) -> float:
    try:
        return float(worker.pool.spec.variables["RUNPOD_INIT_TIMEOUT"])
    except (KeyError, ValueError):
        return START_LIMIT_S
