"""What programs ask for: declare a function, call it, follow, cancel or repeat a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.environments import Environments
from runpod_flash.engine.hosts import Hosts
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.records import Function, Phase
from runpod_flash.engine.registry import Registry
from runpod_flash.engine.relay import Relay
from runpod_flash.engine.state import Client, State
from runpod_flash.engine.streams import Streams
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError, JobNotFound
from runpod_flash.model.job import JobState
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import (
    Accepted,
    Attach,
    Call,
    Cancel,
    Declare,
    Def,
    Error,
    GetDef,
    Lookup,
    Ok,
    PutDef,
    Retry,
    Submit,
    Taken,
)
from runpod_flash.wire.messages import State as StateHead

_END: Final = kinds.END
_RETIRED: Final = Phase.RETIRED
_HOST_TRIES: Final = 40
_HOST_PAUSE_S: Final = 0.025


class Requests:
    """Answers clients; a FlashError raised here is answered with ERROR by the façade."""

    def __init__(
        self,
        state: State,
        registry: Registry,
        queue: Queue,
        attempts: Attempts,
        hosts: Hosts,
        environments: Environments,
        relay: Relay,
        streams: Streams,
    ) -> None:
        self._state = state
        self._turn = state.turn
        self._registry = registry
        self._queue = queue
        self._attempts = attempts
        self._hosts = hosts
        self._environments = environments
        self._relay = relay
        self._streams = streams
        streams.cancel = self.cancel_job
        state.lineage.cancel = self._end_if_it_runs
        self.handlers: dict[int, Callable[[Link, Frame, Any], None]] = {
            kinds.SUBMIT: self._submit,
            kinds.CALL: self._call,
            kinds.DECLARE: self._declare,
            kinds.LOOKUP: self._lookup,
            kinds.PUT_DEF: self._put_def,
            kinds.GET_DEF: self._get_def,
            kinds.ATTACH: self._attach,
            kinds.CANCEL: self._cancel,
            kinds.TAKEN: self._taken,
            kinds.RETRY: self._retry,
        }

    def _submit(self, link: Link, message: Frame, head: Submit) -> None:
        self._queue.submit(link, message.sid, self._called(link, head), head, message.parts)

    def _call(self, link: Link, message: Frame, head: Call) -> None:
        self._relay.call(link, message.sid, self._called(link, head), head, message.parts)

    def _called(self, link: Link, head: Submit | Call) -> Function:
        worker, number = link.state.worker, head.fn
        if worker is not None or head.parent is not None:
            self._state.lineage.check(worker, head.parent)
        fn: Function | None = self._state.functions.get(number)
        if fn is None:
            raise _UnknownFunction(
                f"function {number} is not declared here", why="this engine has started since", fix="declare it again"
            )
        return self._current(fn) if fn.pool.phase is _RETIRED else fn

    def _current(self, fn: Function) -> Function:
        """A program that was there before a deploy calls the new release, or hears that there is none."""
        current = self._registry.current(fn)
        if current is fn:
            raise _UnknownFunction(
                f"{fn.spec.name} is not deployed any more", why="its endpoint was undeployed, or deployed without it"
            )
        return current

    # ── declarations ──────────────────────────────────────────────────────────────────────────────

    def _declare(self, link: Link, message: Frame, head: Declare) -> None:
        self._hosts.want()
        self._answer_declare(link, message, head, _HOST_TRIES * (10 if head.exact else 1))

    def _answer_declare(self, link: Link, message: Frame, head: Declare, tries: int) -> None:
        if not isinstance(link.state, Client):
            return  # gone meanwhile
        if tries and not self._registry.knows_enough(head.pool):
            self._state.call_later(_HOST_PAUSE_S, self._answer_declare, link, message, head, tries - 1)
            return
        self._turn.asked(link, message.sid)
        try:
            declared = self._registry.declare(link, head)
        except FlashError as error:
            refuse(self._state, link, message.sid, error)
            return
        self._turn.promise(link, declared.encode(sid=message.sid, flags=_END))
        self._state.replan()

    def _lookup(self, link: Link, message: Frame, head: Lookup) -> None:
        worker = link.state.worker
        spec = worker.pool.endpoint.spec if worker is not None else None
        app, env = (head.app, head.env) if head.app or spec is None else (spec.app, spec.env)
        declared = self._registry.lookup(app, env, head.endpoint, head.function.name)
        self._turn.send(link, declared.encode(sid=message.sid, flags=_END))

    def _put_def(self, link: Link, message: Frame, head: PutDef) -> None:
        body = message.parts[0] if message.parts else b""
        self._turn.write().save_definition(head.digest, head.name, body, self._state.clock.wall_ms())
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def _get_def(self, link: Link, message: Frame, head: GetDef) -> None:
        body = self._state.store.definition(head.digest)
        if body is None:
            raise _NoDefinition(
                f"there is no definition {head.digest!r}",
                why="no program has sent it, or the jobs that needed it are gone",
                fix="call the function again from a program that has it",
            )
        self._turn.send(link, Def(digest=head.digest).encode((body,), sid=message.sid, flags=_END))

    # ── jobs ──────────────────────────────────────────────────────────────────────────────────────

    def _attach(self, link: Link, message: Frame, head: Attach) -> None:
        if head.wait:
            if not self._queue.attach(link, message.sid, head.job, logs=head.logs, position=head.stream):
                raise _no_job(head.job)
            return
        row = self._row(head.job)
        live = self._state.active.get(head.job)
        state = JobState(row["state"])
        if live is not None:
            state = JobState.RUNNING if live.begun_at else JobState.ASSIGNED
        said = live.progress if live is not None else row["progress"]
        answer = StateHead(
            job=head.job,
            status=state.status,
            attempt=row["attempt"],
            worker=row["worker"] or "",
            progress=msgspec.json.decode(said) if said else None,
        )
        self._turn.promise(link, answer.encode(sid=message.sid, flags=_END))

    def _cancel(self, link: Link, message: Frame, head: Cancel) -> None:
        cause = head.cause or "asked for"
        if self._relay.cancel(head.job, cause):
            self._turn.send(link, Ok().encode(sid=message.sid, flags=_END))
            return
        self.cancel_job(head.job, head.cause or "asked for")
        self._turn.promise(link, Ok().encode(sid=message.sid, flags=_END))

    def cancel_job(self, job: str, cause: str) -> None:
        """Ends a job; FlashError if there is none, or it has ended already."""
        row = self._row(job)
        state = JobState(row["state"])
        if state.is_terminal:
            raise _AlreadyEnded(
                f"job {job} has ended already ({state.status})",
                why="what has ended cannot be cancelled",
                fix=f"see what became of it: flash job {job}",
            )
        if live := self._state.active.get(job):
            self._attempts.cancel(live, cause)
        else:
            self._queue.cancel(row, cause)
            self._environments.cancel_unwanted()

    def _taken(self, link: Link, message: Frame, head: Taken) -> None:
        self._streams.taken(link, message.sid, head)
        self._relay.taken(link, message.sid, head)

    def _end_if_it_runs(self, job: str, cause: str) -> None:
        """Cancels a job or call on the engine's own account; one that has ended stays as it is."""
        row = None if self._relay.cancel(job, cause) else self._state.store.job(job)
        if row is not None and not JobState(row["state"]).is_terminal:
            self.cancel_job(job, cause)

    def _retry(self, link: Link, message: Frame, head: Retry) -> None:
        row = self._row(head.job)
        if not self._queue.again(row):
            raise _NotRetryable(
                f"job {head.job} is {JobState(row['state']).status}",
                why="only jobs that FAILED or TIMED_OUT can be tried again",
                fix=f"see where it stands: flash job {head.job}",
            )
        self._turn.promise(link, Accepted(job=head.job, existing=True).encode(sid=message.sid, flags=_END))

    def _row(self, job: str) -> dict[str, Any]:
        row = self._state.store.job(job)
        if row is None:
            raise _no_job(job)
        return row


def refuse(state: State, link: Link, sid: int, error: FlashError) -> None:
    """Answers a request with ERROR."""
    retry = getattr(error, "retry_after_ms", None)
    head = Error(code=error.code, what=error.what, why=error.why or "", fix=error.fix or "", retry_after_ms=retry)
    state.turn.send(link, head.encode(sid=sid, flags=_END | kinds.FAILED))


class _UnknownFunction(FlashError):
    code = "unknown_function"


class _NoDefinition(FlashError):
    code = "no_definition"


class _AlreadyEnded(FlashError):
    code = "already_ended"


class _NotRetryable(FlashError):
    code = "not_retryable"


class _NoJob(JobNotFound):
    code = "no_job"


def _no_job(job: str) -> JobNotFound:
    return _NoJob(
        f"there is no job {job!r}",
        why="the id is wrong, or of another FLASH_HOME, or the job was removed some time after its end",
        fix="see which there are: flash jobs",
    )
