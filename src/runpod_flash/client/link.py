"""The connection of one event loop to the engine, over as many sockets as it takes.

Life of a link: down → (socket, HELLO, WELCOME, every function declared again, every request under way sent again)
→ up → lost → down. Requests may be opened in any state; those that find the link down wait in the session, and
somebody brings it up. Awaiting callers see none of this, unless no engine can be had: then all of them are told.

The socket is `connection.py`, how the link comes up `arrival.py`, what becomes of refused requests `mending.py`.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import current_task
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

from runpod_flash import settings as settings_
from runpod_flash.client import environment, output
from runpod_flash.client.argument_files import ArgumentFiles
from runpod_flash.client.arrival import Arrival, LinkLost, first_of, seen
from runpod_flash.client.connection import Connection
from runpod_flash.client.mending import Mending
from runpod_flash.client.reply import Reply
from runpod_flash.client.session import Binding, Session, Stream, Watcher
from runpod_flash.errors import UsageError, WorkerLost
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import frame, kinds, messages
from runpod_flash.wire.frame import Buffer, Frame

_TOGETHER: Final = 64
_FAREWELL_S: Final = 1.0
"""How long the engine may take to read our last words."""
"""Frames that are written together. Were it all of a turn, a thousand callers and the engine would take turns: each
would do a thousand calls' worth while the other waits."""


class Link:
    """The connection of one event loop to the engine, over as many sockets as it takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, closed: Callable[[], None]) -> None:
        # Lives as long as the loop.
        self.loop = loop
        self._closed = closed
        self.settings = settings_.load()
        for name, meant in settings_.misspelled().items():
            output.notice_once(f"the variable {name} has no effect. Did you mean {meant}?")
        self.app = environment.app_name(self.settings.app), self.settings.env
        self.names_app = self.settings.app is not None
        self.bindings: dict[Any, Binding] = {}
        self.files = ArgumentFiles(self)
        self._session = Session()
        self._arrival = Arrival(self)
        self._mending = Mending(self)
        self._end_of_loop: AsyncGenerator[None, None] | None = None
        self.closing = False

        # Lives as long as one connection.
        self.up = False
        self.welcome: messages.Welcome | None = None
        self.known: set[str] = set()  # digests this engine has
        self.lost: asyncio.Future[None] = loop.create_future()
        self._connection: Connection | None = None
        self._out: list[bytes] = []
        self._corked = False

    # ── what callers use ──────────────────────────────────────────────────────────────────────────

    def open(self, stream: Stream) -> None:
        """Sends a request now, or as soon as there is an engine."""
        if self.up:
            self._send_stream(stream)
        else:
            self._session.add(stream)
            self._arrival.begin()

    async def request(self, head: messages.Head, parts: Sequence[Buffer] = ()) -> Any:
        """The head of the reply to a request that has one; errors of the engine are raised."""
        reply = await self.ask(head, parts)
        return messages.decode(reply)

    async def ask(self, head: messages.Head, parts: Sequence[Buffer] = (), *, watcher: Watcher | None = None) -> Frame:
        """The frame of the reply to a request."""
        context = copy_context() if watcher is not None else None
        stream = Stream(head, Reply(loop=self.loop), parts, watcher=watcher, context=context)
        self.open(stream)
        return await self.reply(stream)

    async def reply(self, stream: Stream) -> Frame:
        """Waits for the reply to a stream that was opened; forgets the stream if the wait is given up."""
        assert stream.future is not None
        try:
            return await stream.future
        except asyncio.CancelledError:
            self._session.drop(stream)
            raise

    async def ready(self) -> messages.Welcome:
        """Waits until there is an engine, and says what it said."""
        while not self.up or self.welcome is None:
            await asyncio.shield(self._arrival.begin())
        return self.welcome

    async def drained(self) -> None:
        """Waits while the engine reads slower than we write."""
        while self._connection is not None and self._connection.writable is not None:
            await asyncio.shield(self._connection.writable)

    def is_congested(self) -> bool:
        """Whether `drained` would wait."""
        return self._connection is not None and self._connection.writable is not None

    def cancel(self, stream: Stream, job: str, cause: str) -> None:
        """Forgets a call and tells the engine that nobody wants it. Returns at once, and waits for nothing."""
        never_sent = stream.sid in self._session.streams and not stream.sent
        self._session.drop(stream)
        if not never_sent and not self.closing:
            self.open(Stream(messages.Cancel(job=job, cause=cause), None))

    def tell(self, stream: Stream, head: messages.Head) -> None:
        """Says something more about a request under way; nothing if it is to be sent again, as then that says it."""
        if self.up and stream.sent and self._session.streams.get(stream.sid) is stream:
            self._write(head.encode(sid=stream.sid))

    def forget(self, stream: Stream) -> None:
        """What still comes for a request is ignored."""
        self._session.drop(stream)

    async def bind(self, binding: Binding) -> None:
        """Makes the engine know a function, once however many calls ask for it."""
        while not binding.fn:
            await self.ready()
            if binding.task is None or binding.task.done():
                binding.task = self.loop.create_task(self.declare(binding), name="flash-declare")
                binding.task.add_done_callback(seen)
            with suppress(LinkLost):  # the next engine is told
                await asyncio.shield(binding.task)

    def blob_folder(self) -> Path:
        """Where large parts of what this engine sends lie."""
        assert self.welcome is not None
        return Path(self.welcome.blob_dir)

    # ── what is sent ──────────────────────────────────────────────────────────────────────────────

    def _send_stream(self, stream: Stream) -> None:
        if stream.binding is not None:  # a call
            head = stream.head
            head.fn = stream.binding.fn
            if not stream.small and not self.files.spill(stream, head):
                return
            if head.defs:
                self._put_missing(head.defs)
        data = self._session.open(stream)
        stream.sent = True
        self._write(data)

    def _put_missing(self, digests: Sequence[str]) -> None:
        """Sends definitions ahead of the call that needs them; the order of the link makes waiting needless."""
        for digest in digests:
            if digest not in self.known:
                self.known.add(digest)
                self._write(self._session.open(Stream(messages.PutDef(digest=digest), None, [TABLE.body(digest)])))

    def _write(self, data: bytes) -> None:
        """A call alone is written at once; of many in one turn of the loop, some dozens are written together."""
        if self._corked:
            self._out.append(data)
            if len(self._out) >= _TOGETHER:
                self._flush()
        elif len(self._session.streams) < 3:
            assert self._connection is not None
            self._connection.write(data)
        else:
            self._corked = True
            self._out.append(data)
            self.loop.call_soon(self._uncork)

    def _uncork(self) -> None:
        self._corked = False
        self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._connection is not None:
            self._connection.write(b"".join(out))

    async def declare(self, binding: Binding) -> None:
        """DECLARE → DECLARED, and the definitions that the engine lacks. LinkLost."""
        declared: messages.Declared = messages.decode(await self.ask_now(binding.declare))
        for text in declared.notices:
            output.notice_once(text)  # each function of an endpoint brings them, and so does each engine
        name = binding.declare.function.name
        for digest in declared.missing:
            await self.ask_now(messages.PutDef(digest=digest, name=name), [TABLE.body(digest)])
        self.known.update(binding.declare.function.defs)
        binding.fn, binding.held = declared.fn, True

    async def ask_now(self, head: messages.Head, parts: Sequence[Buffer] = ()) -> Frame:
        """A request of the link's own, also while it is coming up; it dies with the connection, as LinkLost."""
        reply = Reply(loop=self.loop)
        stream = Stream(head, reply, parts)
        if self._connection is None:
            raise LinkLost
        self._send_stream(stream)
        await first_of(reply, self.lost)
        if not reply.done():
            self._session.drop(stream)
            raise LinkLost
        return reply.result()

    # ── what comes ────────────────────────────────────────────────────────────────────────────────

    def _received(self, data: memoryview) -> None:
        try:
            # A task is there only where somebody runs the loop inside of one, as some notebooks do.
            self._session.feed(data, self._act, at_once=current_task(self.loop) is None)
        except (frame.FrameError, messages.BadHead) as error:
            output.notice(f"the engine sent something that cannot be read ({error}); connecting again")
            self.abort()

    def _act(self, stream: Stream | None, message: Frame) -> None:
        head = messages.decode(message)
        if stream is not None:
            self._mending.take(stream, head)
        elif message.kind == kinds.PING:
            self._write(messages.Pong().encode(sid=message.sid, flags=kinds.END))
        else:
            self._arrival.take(message.kind, head)

    # ── coming up and going down ──────────────────────────────────────────────────────────────────

    def connected(self, sock: socket.socket, hello: bytes) -> None:
        """There is a socket, to an engine that knows nothing of us."""
        self._session.restart()
        self.welcome = None
        for binding in self.bindings.values():
            binding.fn = 0
        self.known.clear()
        self._out.clear()
        self.lost = self.loop.create_future()
        self._connection = Connection(self.loop, sock, self._received, self._on_lost)
        if hello:
            self._connection.write(hello)

    def is_up(self) -> None:
        """The engine knows of us: what waits is sent."""
        self.up = True
        for stream in self._session.take_all():
            try:
                self._send_stream(stream)
            except UsageError as error:  # it cannot be sent, and those after it can
                stream.fail(error)

    def bindings_in_use(self) -> set[Binding | None]:
        """Those of requests under way."""
        return {stream.binding for stream in self._session.streams.values()}

    def wait_for_next(self, stream: Stream) -> None:
        """The request is for the next engine."""
        stream.sent = False
        self._session.add(stream)

    def tell_all(self, error: BaseException, binding: Binding | None = None) -> None:
        """Ends every wait, or those for calls of one function, with `error`."""
        for stream in list(self._session.streams.values()):
            if binding is None or stream.binding is binding:
                self._session.drop(stream)
                stream.fail(error)

    def abort(self) -> None:
        """Ends the connection now."""
        if self._connection is not None:
            self._connection.abort()

    def _on_lost(self) -> None:
        self.up = False
        self._connection = None
        if not self.lost.done():
            self.lost.set_result(None)
        for stream in self._session.take_unrepeatable():
            stream.fail(_call_lost(stream.head))
        if self._session.streams and not self.closing:
            self._arrival.begin()
        else:
            self._arrival.goodbye = ""  # nobody waits, so whoever calls next may start an engine at once

    # ── the end of the loop, or of the program ────────────────────────────────────────────────────

    async def watch_end_of_loop(self) -> None:
        """A generator that is closed when the loop is shut down, as `asyncio.run` does, takes the link with it."""
        if self._end_of_loop is None:
            self._end_of_loop = self._until_end_of_loop()
            await self._end_of_loop.__anext__()

    async def _until_end_of_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Cancels what is under way and closes the connection."""
        self.closing = True
        await self._arrival.give_up()
        if self._connection is not None:
            self._uncork()
            self._connection.close(self._cancels())
            await asyncio.wait({self.lost}, timeout=_FAREWELL_S)
            self.abort()  # if it has not read all that by now, it never will
        self._closed()

    async def give_up(self) -> None:
        """The interpreter ends while this loop runs in a thread: cancels what is awaited. Later calls are possible."""
        if self._connection is not None:
            self._uncork()
            self._connection.write(b"".join(self._cancels()))

    def leave(self) -> None:
        """The loop runs no more, closed or not: says what has to be said straight to the socket, and closes it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.closing = True
            connection.send_last(b"".join([*self._out, *self._cancels()]), _FAREWELL_S)

    def disown(self) -> None:
        """In a forked child: gives up our copy of the socket without a word."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disown()

    def _cancels(self) -> list[bytes]:
        """CANCEL frames for the calls that somebody in this program still awaits."""
        frames = []
        for stream in self._session.take_all():
            name = _waited_for(stream.head)
            if stream.sent and name:
                cancel = Stream(messages.Cancel(job=name, cause="the program ended"), None)
                frames.append(self._session.open(cancel))
            if stream.future is not None:
                stream.future.cancel()
        return frames


def _waited_for(head: messages.Head) -> str:
    """The job or call that ends with its caller; "" for all else."""
    if isinstance(head, messages.Call):
        return head.call
    return head.job if isinstance(head, messages.Submit) and head.wait else ""


def _call_lost(head: messages.Call) -> WorkerLost:
    return WorkerLost(
        "the connection to the engine was lost during a load-balanced call",
        why="such a call is on no record, so nobody can say whether it ran, and it is not sent again",
        fix="call again if running twice does no harm, or use a queue-based class such as LiveServerless",
    )
