"""A job by its id, and how its outcome becomes a JobOutput.

A handle needs nothing but the id, so another program, or this one tomorrow, can take up where it was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Final, Generic, TypeVar

from runpod_flash.client import background, environment, items, transfer, transport
from runpod_flash.client.link import Link
from runpod_flash.client.reply import Reply
from runpod_flash.client.session import AlreadyEnded, Stream
from runpod_flash.client.transcript import Transcript
from runpod_flash.errors import JobTimeout, UsageError, call_site, shown
from runpod_flash.model.job import ErrorKind, JobStatus
from runpod_flash.model.output import JobOutput, Record, form_of
from runpod_flash.payload import codec, failures
from runpod_flash.payload import json_view as views
from runpod_flash.wire import messages
from runpod_flash.wire.frame import Buffer, Frame
from runpod_flash.wire.messages import Attach, Cancel, Outcome, Retry, State, Taken

R = TypeVar("R")
_COMPLETED: Final = JobStatus.COMPLETED
_new = tuple.__new__  # what Record(…) does, without a Python function in between


class Status(str):
    """Where a job stands: a plain text, with what the job said of its progress beside it."""

    __slots__ = ("progress",)

    progress: Any

    def __new__(cls, text: str, progress: Any = None) -> Status:
        status = super().__new__(cls, text)
        status.progress = progress
        return status


class JobHandle(Generic[R]):
    """A job on the queue. Await it for its JobOutput; `.sync` has the verbs for code that does not await."""

    __slots__ = ("id", "name")

    def __init__(self, id: str, name: str = "") -> None:
        if not _is_id(id):
            raise UsageError(
                f"{shown(id)} is no job id", where=call_site(), why="it must be a string that is not empty"
            )
        self.id = id
        self.name = name

    @classmethod
    def from_id(cls, id: str) -> JobHandle[Any]:
        """The handle of a job that somebody spawned, here or elsewhere. Asks nobody: a wrong id is noticed later."""
        return JobHandle(id)

    def __repr__(self) -> str:
        return f"JobHandle(id={self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __await__(self) -> Generator[Any, None, JobOutput[R]]:
        return self.wait().__await__()

    @property
    def sync(self) -> SyncHandle[R]:
        """The same verbs, blocking."""
        return SyncHandle(self)

    async def wait(self) -> JobOutput[R]:
        """Waits until the job has ended, whatever its end. Giving up waiting does not touch the job."""
        link = transport.current()
        # Who follows the output is told of the end after the last line: so `logs()` is complete from here on.
        return await to_output(link, await link.ask(Attach(job=self.id, logs=True)))

    async def result(self, timeout: float | None = None) -> R:
        """The plain value; a job that did not complete raises. JobTimeout if it has not ended within `timeout` s."""
        if timeout is None:
            return (await self.wait()).unwrap()
        task = asyncio.ensure_future(self.wait())
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            if not task.done():
                task.cancel()
        if not done:
            raise JobTimeout(
                f"job {self.id} has not ended after {timeout:g} s",
                why="it goes on: only the waiting has ended",
                fix="await it again, or cancel it with handle.cancel()",
            )
        return task.result().unwrap()

    async def status(self) -> Status:
        """IN_QUEUE, IN_PROGRESS, COMPLETED, FAILED, CANCELLED or TIMED_OUT; `.progress` is what the job said last."""
        state: State = await transport.current().request(Attach(job=self.id, wait=False))
        return Status(state.status, state.progress)

    async def progress(self) -> Any:
        """What the job said last with `progress(value)`; None if it has said nothing."""
        return (await self.status()).progress

    async def cancel(self) -> bool:
        """Ends the job, wherever it stands; False if it has ended already, and stays as it is.

        A running coroutine is cancelled and has five seconds to clean up; the worker of a plain function is killed.
        """
        try:
            await transport.current().request(Cancel(job=self.id, cause="handle.cancel()"))
        except AlreadyEnded:
            return False
        return True

    async def retry(self) -> JobHandle[R]:
        """Runs a job that failed or timed out once more, under its id."""
        await transport.current().request(Retry(job=self.id))
        return self

    async def logs(self, follow: bool = False) -> AsyncIterator[str]:
        """The lines that the job printed so far; with `follow` also those to come, until it ends.

        Where a second or later attempt begins there is a line `── attempt 2 ──`.
        """
        transcript = Transcript(transport.current(), self.id)
        async for line in transcript.until_the_end() if follow else transcript.so_far():
            yield line

    async def stream(self) -> AsyncIterator[Any]:
        """What a generator yields, one by one and from the first on, whenever it is asked for and by how many readers.

        Ends as the job ends: an exception is raised after the last item. Leaving the loop does not touch the job.
        """
        async with contextlib.aclosing(_kept(transport.current(), self.id)) as found:
            async for item in found:
                yield item


EndpointJob = JobHandle
"""The vendor's name for it."""


class SyncHandle(Generic[R]):
    """`handle.sync`: the verbs of a handle for code that does not await."""

    def __init__(self, handle: JobHandle[R]) -> None:
        self._handle = handle

    def wait(self) -> JobOutput[R]:
        """What `await handle` gives."""
        return background.run(self._handle.wait())

    def result(self, timeout: float | None = None) -> R:
        """What `await handle.result()` gives."""
        return background.run(self._handle.result(timeout))

    def status(self) -> Status:
        """What `await handle.status()` gives."""
        return background.run(self._handle.status())

    def progress(self) -> Any:
        """What `await handle.progress()` gives."""
        return background.run(self._handle.progress())

    def cancel(self) -> bool:
        """What `await handle.cancel()` does."""
        return background.run(self._handle.cancel())

    def retry(self) -> JobHandle[R]:
        """What `await handle.retry()` does."""
        return background.run(self._handle.retry())

    def logs(self, follow: bool = False) -> Iterator[str]:
        """What `handle.logs()` gives, as an ordinary iterator."""
        return background.iterate(self._handle.logs(follow))

    def stream(self) -> Iterator[Any]:
        """What `handle.stream()` gives, as an ordinary iterator."""
        return background.iterate(self._handle.stream())


def json_view(value: object) -> bytes:
    """A result as those see it who read JSON; ValueError says where it is none."""
    return views.view(value)


def _is_id(id: object) -> bool:
    return isinstance(id, str) and bool(id)


# ── outcomes ──────────────────────────────────────────────────────────────────────────────────────


def at_once(frame: Frame) -> JobOutput[Any] | None:
    """The JobOutput of a job that completed, if all of its value came with its OUTCOME."""
    head: Outcome = messages.decode(frame)
    if head.status != _COMPLETED or head.blobs or head.defs or head.chunks:
        return None
    return _completed(head, codec.decode_value(frame.parts[: head.values]) if head.values else None)


async def to_output(link: Link, frame: Frame, *, whole: bool = True) -> JobOutput[Any]:
    """The JobOutput of a job from its OUTCOME, decoded here: into the classes of this program.

    With `whole` the output of a job whose items are kept is the list of them.
    """
    head: Outcome = messages.decode(frame)
    parts: list[Buffer] | tuple[bytes, ...] = frame.parts
    if head.blobs:
        parts = await transfer.gather(link, head.job, parts, head.blobs)
    if head.defs:
        await transfer.fetch(link, head.defs)
    values, exceptions = parts[: head.values], parts[head.values : head.values + head.excs]
    if head.status == JobStatus.COMPLETED:
        if head.chunks and whole:
            return _completed(head, [item async for item in _kept(link, head.job)])
        return _completed(head, codec.decode_value(values) if values else None)
    return _failed(head, exceptions)


async def _kept(link: Link, id: str) -> AsyncGenerator[Any, None]:
    """What a spawned job yields, from its first item to its last, and then the error that ended it, if one did."""
    inbox = items.Inbox()
    stream = Stream(Attach(job=id, stream=inbox.position), Reply(loop=link.loop), inbox=inbox)
    link.open(stream)
    try:
        async with contextlib.aclosing(items.read(link, stream, inbox, id)) as found:
            async for item in found:
                yield item
        (await to_output(link, await link.reply(stream), whole=False)).unwrap()
    finally:
        if stream.future is not None and not stream.future.done():
            link.tell(stream, Taken(upto=inbox.position.taken, left=True))
            link.forget(stream)


def _completed(head: Outcome, value: Any) -> JobOutput[Any]:
    ended_at = head.ended_at_ms // 1000
    return form_of(
        _new(
            Record,
            (
                head.job,
                _COMPLETED,
                value,
                None,
                ErrorKind.USER,
                None,
                None,
                ended_at if head.started_at_ms is None else head.started_at_ms // 1000,
                ended_at,
                head.worker,
                head.delay_ms,
                head.run_us // 1000,
                head.attempts,
            ),
        )
    )


def _failed(head: Outcome, exceptions: Any) -> JobOutput[Any]:
    error = head.error
    exception: BaseException | None = None
    if error is not None and (exceptions or error.kind == ErrorKind.USER):
        exception = failures.restore(error, exceptions, worker=head.worker)
    elif error is not None and error.kind == ErrorKind.ENV:
        exception = environment.failure(error)  # so that `except DependencyError` finds it
    return JobOutput(
        id=head.job,
        status=head.status,
        error=_words(error) + _missing_here(exception) if error is not None else None,
        error_kind=error.kind if error is not None else ErrorKind.USER,
        exception=exception,
        traceback=(error.traceback or None) if error is not None else None,
        started_at_ms=head.started_at_ms,
        ended_at_ms=head.ended_at_ms,
        worker_id=head.worker,
        delay_time=head.delay_ms,
        execution_time=head.run_us // 1000,
        attempts=head.attempts,
    )


def _missing_here(exception: BaseException | None) -> str:
    """What to do about a file that a worker did not find and that is here."""
    path = getattr(exception, "filename", None)
    if not isinstance(exception, FileNotFoundError) or not isinstance(path, str):
        return ""
    if os.path.isabs(path) or not os.path.exists(path):
        return ""
    return (
        f"\n  why:   a worker has a folder of its own, and {path!r} is in that of this program, {os.getcwd()}"
        f"\n  fix:   pass the contents of the file, or where it is: os.path.abspath({path!r})"
    )


def _words(error: messages.ErrorInfo) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type
