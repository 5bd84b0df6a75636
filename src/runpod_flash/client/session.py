"""The bookkeeping of a link, without I/O: which requests are under way, who waits, what to send again.

A request keeps what it was made of until its reply is there. So when a link is lost, everything under way can be
sent again to the next engine: calls carry ids that the client chose, and are idempotent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final, Protocol

import msgspec

from runpod_flash.client.reply import Reply
from runpod_flash.errors import FlashError, JobNotFound, UsageError, error_from_code
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Buffer, Frame, FrameReader
from runpod_flash.wire.messages import Declare, Lookup

Watcher = Callable[["Stream", Any], None]
"""Is told of every frame between a request and its reply: STATE, LOG, ENV_STATE."""

_REPLIES: Final = {kinds.OUTCOME, kinds.RETURNED}
"""With which most requests end."""
_INTERMEDIATE: Final = {kinds.STATE, kinds.LOG, kinds.ENV_STATE}
_MEANT: Final = {"no_job": JobNotFound.code, "bad_request": UsageError.code}
"""The engine's words for a refusal, where they are not those of the error tree."""


class Inbox(Protocol):
    """Takes the items of a call that yields, as they come."""

    def put(self, frame: Frame) -> None:
        """One comes."""


class AlreadyEnded(FlashError):
    """A job that was to be cancelled had ended."""


class NotDeployed(FlashError):
    """Nothing of that name is deployed there."""


class Binding:
    """One version of a function on one pool, as the engine of this link knows it; `fn` is what SUBMIT names."""

    __slots__ = ("declare", "fn", "held", "may_change", "task", "watcher")

    def __init__(self, declare: Declare | Lookup, watcher: Watcher, *, may_change: bool) -> None:
        self.declare = declare
        self.watcher = watcher
        self.may_change = may_change  # what it was made of has to be looked at before each call
        self.fn = 0  # 0: the engine that we are connected to has not been told
        self.held = False  # some engine was told, so the next one is told without being asked
        self.task: asyncio.Task[None] | None = None


class Stream(msgspec.Struct, eq=False):
    """A request under way. `future` gets the frame of the reply; without one nobody waits."""

    head: Any  # a Head
    future: Reply | None
    parts: Sequence[Buffer] = ()  # as they were given
    small: bool = True  # they travel as they are
    binding: Binding | None = None
    watcher: Watcher | None = None
    # Of who asks, for the watcher. A notebook reads from it which cell a line belongs to.
    context: Context | None = None
    inbox: Inbox | None = None  # where the items go of a call that yields
    inline: Sequence[Buffer] | None = None  # the parts as they travel, where large ones are in files …
    blob_home: str = ""  # … of this engine
    sid: int = 0
    sent: bool = False
    again: bool = False  # sent to a second engine, or over a second connection
    tries: int = 0
    patient: bool = False  # a full queue is waited for
    # What it has shown of the job's output: attempt, lines; and, while a gap is being closed, what came since.
    lines: tuple[int, int] = (0, 0)
    kept_back: Sequence[messages.Log] = ()
    catching_up: asyncio.Task[None] | None = None

    def fail(self, error: BaseException) -> None:
        """Ends the wait with `error`."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(error)


class Session:
    """The streams of one link."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self._reader = FrameReader()
        self._next = 1

    def open(self, stream: Stream) -> bytes:
        """Gives the stream a number and returns what to send; a stream that had one gets another."""
        if stream.sid:
            self.streams.pop(stream.sid, None)
            stream.again = True
        stream.sid = sid = self._next
        self._next = sid + 2  # ours are odd
        try:
            frame: bytes = stream.head.encode(stream.inline or stream.parts, sid=sid)
        except UnicodeEncodeError as error:  # Python reads any bytes in a path; a frame has text
            raise UsageError(
                f"{error.object!r} cannot be the name of anything that is called",
                why="it has bytes that are no UTF-8",
                fix="rename the file or the folder that it comes from",
            ) from None
        self.streams[sid] = stream
        return frame

    def add(self, stream: Stream) -> None:
        """Like `open` for a link that is down: the stream is sent when it is up again."""
        self.streams.pop(stream.sid, None)
        stream.sid = self._next
        self._next += 2
        self.streams[stream.sid] = stream

    def drop(self, stream: Stream) -> None:
        """Forgets a stream; what still comes for it is ignored."""
        self.streams.pop(stream.sid, None)

    def take_all(self) -> list[Stream]:
        """Every stream under way, in the order in which they were opened; none is left."""
        streams = list(self.streams.values())
        self.streams.clear()
        return streams

    def take_unrepeatable(self) -> list[Stream]:
        """The load-balanced calls that were sent: they may have run, so they are not for the next engine."""
        lost = [one for one in self.streams.values() if one.sent and isinstance(one.head, messages.Call)]
        for stream in lost:
            del self.streams[stream.sid]
        return lost

    def restart(self) -> None:
        """The link is a new one: half a frame of the old one means nothing."""
        self._reader = FrameReader()
        for stream in self.streams.values():
            stream.sent = False

    def feed(self, data: Buffer, act: Callable[[Stream | None, Frame], None], *, at_once: bool) -> None:
        """Gives replies to those who wait; `act` has what is left for the link to do.

        That is: (None, frame) for frames of the link itself, and (stream, frame) for a request that failed.
        Raises FrameError or BadHead when the peer talks nonsense. With `at_once`, which only a callback of the loop may
        ask for, tasks that wait for replies go on in here.
        """
        streams = self.streams
        for frame in self._reader.feed(data):
            kind, flags, sid, _, _ = frame
            stream = streams.get(sid)
            if stream is None or kind not in _REPLIES or flags != kinds.END:
                self._take(stream, frame, act)
                continue
            del streams[sid]
            reply = stream.future
            if reply is None:
                continue
            if at_once:
                reply.deliver(frame)
            elif not reply.done():
                reply.set_result(frame)

    def _take(self, stream: Stream | None, frame: Frame, act: Callable[[Stream | None, Frame], None]) -> None:
        """What is not simply the end of a call."""
        kind, flags = frame.kind, frame.flags
        if stream is None:
            if frame.sid == 0 or kind == kinds.PING:
                act(None, frame)
        elif kind == kinds.CHUNK:
            if stream.inbox is not None:
                stream.inbox.put(frame)
        elif kind in _INTERMEDIATE and not flags & kinds.END:
            _show(stream, frame)
        else:
            del self.streams[frame.sid]
            if kind == kinds.ERROR or flags & kinds.FAILED:
                act(stream, frame)
            elif stream.future is not None and not stream.future.done():
                stream.future.set_result(frame)


def _show(stream: Stream, frame: Frame) -> None:
    if stream.watcher is not None and stream.context is not None:
        stream.context.run(stream.watcher, stream, messages.decode(frame))


def error_of(head: messages.Error | messages.Refuse) -> FlashError:
    """The exception for an ERROR or a REFUSE."""
    if head.code == "already_ended":
        return AlreadyEnded(head.what, why=head.why)
    if head.code == "not_deployed":
        return NotDeployed(head.what, why=head.why or None, fix=head.fix or None)
    return error_from_code(
        _MEANT.get(head.code, head.code),
        head.what,
        why=head.why or None,
        fix=head.fix or None,
        retry_after_ms=getattr(head, "retry_after_ms", None),
    )
