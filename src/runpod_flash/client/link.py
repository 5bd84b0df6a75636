"""The connection of one event loop to the engine, over as many sockets as it takes.

Life of a link: down → (socket, HELLO, WELCOME, every function declared again, every request under way sent again)
→ up → lost → down. Requests may be opened in any state; those that find the link down wait in the session, and
somebody brings it up. Awaiting callers see none of this, unless no engine can be had: then all of them are told.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from runpod_flash import settings as settings_
from runpod_flash._version import __version__
from runpod_flash.client import environment, output, sent
from runpod_flash.client.dial import dial
from runpod_flash.client.session import Binding, Session, Stream, Watcher, error_of
from runpod_flash.errors import EngineError, EngineUnavailable, QueueFull, StoreError, WorkerLost
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import blobs, door, frame, kinds, messages
from runpod_flash.wire.frame import Buffer, Frame

HELLO_SECONDS: Final = 15.0
PERSISTENCE: Final = 30.0
"""Seconds for which engines that end during their hello are followed by another try."""
_FORGOTTEN: Final = {"unknown_function", "no_definition"}
"""Errors of an engine that has lost sight of something that was declared; declaring it again mends them."""
_NO_BLOB: Final = "no_blob"
_LEAVING: Final = "leaving"
_CALLS: Final = {messages.Submit, messages.Call}
_MAX_TRIES: Final = 5
_FULL_MS: Final = 1000
_LET_GO_SECONDS: Final = 1.0
_READ_AT_ONCE: Final = 256 * 1024
_TOGETHER: Final = 64
"""Frames that are written together. Were it all of a turn, a thousand callers and the engine would take turns: each
would do a thousand calls' worth while the other waits."""


class Link(asyncio.BufferedProtocol):
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
        self._session = Session()
        self._coming: asyncio.Task[None] | None = None
        self._mending: set[asyncio.Task[None]] = set()
        self._end_of_loop: AsyncGenerator[None, None] | None = None
        self._closing = False
        self._asked_for_room = False
        self._holding = False
        self.shares_files = True  # until it is known that the engine does not see what we write

        # Lives as long as one connection.
        self.up = False
        self.welcome: messages.Welcome | None = None
        self._sock: socket.socket | None = None
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.Future[messages.Welcome] | None = None
        self._lost: asyncio.Future[None] | None = None
        self._goodbye = ""
        self._known: set[str] = set()  # digests this engine has
        self._in = memoryview(bytearray(_READ_AT_ONCE))
        self._out: list[bytes] = []
        self._corked = False
        self._writable: asyncio.Future[None] | None = None

    # ── what callers use ──────────────────────────────────────────────────────────────────────────

    def open(self, stream: Stream) -> None:
        """Sends a request now, or as soon as there is an engine."""
        if self.up:
            self._send_stream(stream)
        else:
            self._session.add(stream)
            self._come_up()

    async def request(self, head: messages.Head, parts: Sequence[Buffer] = ()) -> Any:
        """The head of the reply to a request that has one; errors of the engine are raised."""
        reply = await self.ask(head, parts)
        return messages.decode(reply)

    async def ask(self, head: messages.Head, parts: Sequence[Buffer] = (), *, watcher: Watcher | None = None) -> Frame:
        """The frame of the reply to a request."""
        stream = Stream(head, self.loop.create_future(), parts, watcher=watcher)
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
            self._come_up()
            assert self._coming is not None
            await asyncio.shield(self._coming)
        return self.welcome

    async def drained(self) -> None:
        """Waits while the engine reads slower than we write."""
        while self._writable is not None:
            await asyncio.shield(self._writable)

    @property
    def congested(self) -> bool:
        """Whether `drained` would wait."""
        return self._writable is not None

    def cancel(self, stream: Stream, job: str, cause: str) -> None:
        """Forgets a call and tells the engine that nobody wants it. Returns at once, and waits for nothing."""
        never_sent = stream.sid in self._session.streams and not stream.sent
        self._session.drop(stream)
        if not never_sent and not self._closing:
            self.open(Stream(messages.Cancel(job=job, cause=cause), None))

    def tell(self, stream: Stream, head: messages.Head) -> None:
        """Says something more about a request under way; nothing if it is to be sent again, as then that says it."""
        if self.up and stream.sent and self._session.streams.get(stream.sid) is stream:
            self._write(head.encode(sid=stream.sid))

    def forget(self, stream: Stream) -> None:
        """What still comes for a request is ignored."""
        self._session.drop(stream)

    def completed(self, job: str, files: Sequence[messages.Moved]) -> list[str]:
        """Tells the engine which files are of no more use, now that a call that named some has completed.

        Returns those that only this call can have named.
        """
        if not self.shares_files:
            return []
        useless = sent.TABLE.completed(self.blob_folder(), job, files)
        self._drop(useless)
        return [blob for _, blob, size in files if size > sent.HASHED and (job, blob) in useless]

    def _drop(self, useless: Sequence[tuple[str, str]]) -> None:
        if self.up:  # else they go with their jobs
            for job, blob in useless:
                self.open(Stream(messages.DropBlobs(job=job, blobs=[blob]), None))

    async def bind(self, binding: Binding) -> None:
        """Makes the engine know a function, once however many calls ask for it."""
        while not binding.fn:
            await self.ready()
            if binding.task is None or binding.task.done():
                binding.task = self.loop.create_task(self._declare(binding), name="flash-declare")
                binding.task.add_done_callback(_seen)
            with suppress(_LinkLost):  # the next engine is told
                await asyncio.shield(binding.task)

    def blob_folder(self) -> Path:
        """Where large parts of what this engine sends lie."""
        assert self.welcome is not None
        return Path(self.welcome.blob_dir)

    # ── streams ───────────────────────────────────────────────────────────────────────────────────

    def _send_stream(self, stream: Stream) -> None:
        head = stream.head
        if stream.binding is not None:
            head.fn = stream.binding.fn
        if stream.parts and type(head) in _CALLS:
            if _large(stream.parts) and not self._spill(stream, head):
                return
            for digest in head.defs:
                if digest not in self._known:
                    self._put(digest)
        data = self._session.open(stream)
        stream.sent = True
        self._write(data)

    def _spill(self, stream: Stream, head: messages.Submit | messages.Call) -> bool:
        """Moves large arguments to files, unless they are in some; False if they cannot be, and who waits is told."""
        assert self.welcome is not None
        if stream.blob_home == self.welcome.engine:
            return True
        try:
            stream.inline, head.blobs = blobs.spill(stream.parts, self._place)
        except OSError as error:
            stream.fail(
                StoreError(
                    str(error),
                    where=stream.binding.declare.function.where if stream.binding else None,
                    why="large arguments are put into files before a call is sent; nothing was sent",
                    fix="free some space there, pass a path or an address instead, or set FLASH_HOME to another disk",
                )
            )
            return False
        stream.blob_home = self.welcome.engine
        return True

    def _place(self, data: Buffer) -> str:
        assert self.welcome is not None
        if not self.shares_files:
            return sent.name_of(data)  # a name: if it means nothing to the engine, the contents follow
        blob = sent.TABLE.place(self.blob_folder(), data, sync=self.welcome.durability == "power")
        if type(data) is bytes and len(data) > sent.HASHED and not self._holding:
            self._holding = True
            self._let_go()
        return blob

    def _let_go(self) -> None:
        """Looks now and then whether bytes that were sent are still of use to anybody."""
        self._holding, useless = sent.TABLE.let_go()
        self._drop(useless)
        if self._holding:
            self.loop.call_later(_LET_GO_SECONDS, self._let_go)

    def _put(self, digest: str) -> None:
        """Sends a definition ahead of the call that needs it; the order of the link makes waiting needless."""
        self._known.add(digest)
        self._write(self._session.open(Stream(messages.PutDef(digest=digest), None, [TABLE.body(digest)])))

    def _write(self, data: bytes) -> None:
        """A call alone is written at once; of many in one turn of the loop, some dozens are written together."""
        assert self._transport is not None
        if self._corked:
            self._out.append(data)
            if len(self._out) >= _TOGETHER:
                self._flush()
        elif len(self._session.streams) < 3:
            self._transport.write(data)
        else:
            self._corked = True
            self._out.append(data)
            self.loop.call_soon(self._uncork)

    def _uncork(self) -> None:
        self._corked = False
        self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    # ── frames ────────────────────────────────────────────────────────────────────────────────────

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what comes is put. A loop that makes room for each reading anew is busy with just that for 20 µs."""
        return self._in

    def buffer_updated(self, nbytes: int) -> None:
        try:
            for stream, message in self._session.feed(self._in[:nbytes]):
                if stream is None:
                    self._on_link_frame(message)
                else:
                    self._on_error(stream, messages.decode(message))
        except (frame.FrameError, messages.BadHead) as error:
            output.notice(f"the engine sent something that cannot be read ({error}); connecting again")
            assert self._transport is not None
            self._transport.abort()

    def _on_link_frame(self, message: Frame) -> None:
        head = messages.decode(message)
        if message.kind == kinds.PING:
            self._write(messages.Pong().encode(sid=message.sid, flags=kinds.END))
        elif message.kind == kinds.GOODBYE:
            self._goodbye = head.reason
        elif self._greeting is not None and not self._greeting.done():
            if message.kind == kinds.WELCOME:
                self._greeting.set_result(head)
            elif message.kind == kinds.REFUSE and head.handover:
                self._goodbye = "handover"
                self._greeting.set_exception(_Leaving())
            elif message.kind in (kinds.REFUSE, kinds.ERROR):
                self._greeting.set_exception(error_of(head))

    def _on_error(self, stream: Stream, error: messages.Error) -> None:
        binding = stream.binding
        stream.tries += 1
        if error.code in _FORGOTTEN and binding is not None and stream.tries < _MAX_TRIES:
            binding.fn = 0
            self._known.clear()
            self._mend(self._bind_and_send(binding, stream))
        elif error.code == _NO_BLOB and type(stream.head) in _CALLS and stream.tries < _MAX_TRIES:
            self._bring_files(stream)
        elif error.code == _LEAVING:
            stream.sent = False  # it was not begun, so it waits for the next engine
            self._session.add(stream)
        elif error.code == QueueFull.code and stream.patient:
            stream.tries = 0
            self.loop.call_later((error.retry_after_ms or _FULL_MS) / 1000, self._open_if_wanted, stream)
        else:
            if isinstance(stream.head, messages.PutDef):
                self._known.discard(stream.head.digest)
            stream.fail(error_of(error))

    def _bring_files(self, stream: Stream) -> None:
        """The engine lacks files that a call names: removed since we looked, or it does not see what we write."""
        stream.blob_home = ""
        if stream.tries == 1 and self.shares_files:
            self.open(stream)
        else:
            self.shares_files = False
            self._mend(self._upload_and_send(stream))

    async def _upload_and_send(self, stream: Stream) -> None:
        from runpod_flash.client import transfer  # noqa: PLC0415 - only where files are not shared

        try:
            await self.ready()
            stream.inline, stream.head.blobs = blobs.spill(stream.parts, sent.name_of)
            for index, blob, _size in stream.head.blobs:
                await transfer.upload(self, blob, stream.parts[index])
            stream.blob_home = self.welcome.engine if self.welcome is not None else ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting caller's
            stream.fail(error)
        else:
            self.open(stream)

    def _mend(self, work: Coroutine[Any, Any, None]) -> None:
        """Does what a request needs before it can be sent again."""
        task = self.loop.create_task(work)
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)

    def _open_if_wanted(self, stream: Stream) -> None:
        if stream.future is not None and not stream.future.done() and not self._closing:
            self.open(stream)

    async def _bind_and_send(self, binding: Binding, stream: Stream) -> None:
        try:
            await self.bind(binding)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting caller's
            stream.fail(error)
        else:
            self.open(stream)

    async def _declare(self, binding: Binding) -> None:
        """DECLARE → DECLARED, and the definitions that the engine lacks."""
        declared: messages.Declared = messages.decode(await self._ask_now(binding.declare))
        for text in declared.notices:
            output.notice_once(text)  # each function of an endpoint brings them, and so does each engine
        name = binding.declare.function.name
        for digest in declared.missing:
            await self._ask_now(messages.PutDef(digest=digest, name=name), [TABLE.body(digest)])
        self._known.update(binding.declare.function.defs)
        binding.fn, binding.held = declared.fn, True

    async def _ask_now(self, head: messages.Head, parts: Sequence[Buffer] = ()) -> Frame:
        """A request of the link's own, also while it is coming up; it dies with the connection."""
        stream = Stream(head, self.loop.create_future(), parts)
        self._send_stream(stream)
        assert self._lost is not None
        assert stream.future is not None
        await _first_of(stream.future, self._lost)
        if not stream.future.done():
            self._session.drop(stream)
            raise _LinkLost
        return stream.future.result()

    # ── coming up ─────────────────────────────────────────────────────────────────────────────────

    def _come_up(self) -> None:
        if self._closing:
            raise EngineUnavailable("this event loop is ending", fix="make calls before it ends")
        if self._coming is None or self._coming.done():
            self._coming = self.loop.create_task(self._come_up_or_tell(), name="flash-link")
            # Everybody who needs to know is told through a future of their own.
            self._coming.add_done_callback(_seen)

    async def _come_up_or_tell(self) -> None:
        try:
            await self._connect_again_and_again()
        except asyncio.CancelledError:
            self._tell_all(
                EngineUnavailable(
                    "the program was ending before there was an engine",
                    why="its event loop was closed while calls waited to be sent",
                    fix="await the calls before the program ends",
                )
            )
            raise
        except Exception as error:
            self._tell_all(error)
            raise

    async def _connect_again_and_again(self) -> None:
        """Engines may end while we say hello: then there is the next one, unless that goes on for too long."""
        end = self.loop.time() + PERSISTENCE
        pause = 0.01
        while True:
            try:
                await self._connect()
                return
            except _Leaving:
                await self._gone()
            except _LinkLost:
                if self.loop.time() > end:
                    raise EngineUnavailable(
                        f"for {PERSISTENCE:.0f} s every engine ended right after its start",
                        fix="flash engine status, and look at engine.log in the data folder",
                    ) from None
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _tell_all(self, error: BaseException, binding: Binding | None = None) -> None:
        """Ends every wait, or those for calls of one function, with `error`."""
        for stream in list(self._session.streams.values()):
            if binding is None or stream.binding is binding:
                self._session.drop(stream)
                stream.fail(error)

    async def _connect(self) -> None:
        left, self._goodbye = self._goodbye, ""
        sock = await dial(self.settings, left)
        self._reset(sock)
        try:
            await self.loop.create_unix_connection(lambda: self, sock=sock)
        except OSError:
            sock.close()
            raise _LinkLost from None
        await self._watch_end_of_loop()
        self.welcome = await self._greet()
        if _newer(__version__, self.welcome.version) and not self._asked_for_room:
            await self._hand_over(self.welcome.version)
        await self._declare_held()
        self.up = True
        for stream in self._session.take_all():
            self._send_stream(stream)

    def _reset(self, sock: socket.socket) -> None:
        self._session.restart()
        self._sock = sock
        self.welcome = None
        for binding in self.bindings.values():
            binding.fn = 0
        self._known.clear()
        self._out.clear()
        self._greeting = self.loop.create_future()
        self._lost = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an assertion: the transports of uvloop do not inherit from those of asyncio.
        self._transport = writing = cast("asyncio.Transport", transport)
        writing.set_write_buffer_limits(high=4 << 20)
        if door.here() is not None:
            return  # the host has said hello for this worker
        hello = messages.Hello(
            proto_min=kinds.PROTO_MIN,
            proto_max=kinds.PROTO_MAX,
            role="client",
            version=__version__,
            pid=os.getpid(),
            base_env=settings_.inherited(),
        )
        writing.write(hello.encode())

    async def _greet(self) -> messages.Welcome:
        assert self._greeting is not None
        assert self._lost is not None
        await _first_of(self._greeting, self._lost, timeout=HELLO_SECONDS)
        if self._greeting.done():
            return self._greeting.result()
        if self._lost.done():
            raise _LinkLost
        self._abort()
        raise EngineUnavailable(
            f"the engine did not say hello within {HELLO_SECONDS:.0f} s", fix="flash engine restart"
        )

    async def _hand_over(self, version: str) -> None:
        """An engine older than us makes room for one of ours; its jobs, hosts and workers stay."""
        self._asked_for_room = True
        try:
            await self._ask_now(messages.Admin(verb="handover"))
        except EngineError as error:
            output.notice(f"the engine is of version {version}, this program of {__version__}: {error.what}")
            return
        self._goodbye = self._goodbye or "handover"
        raise _Leaving

    async def _gone(self) -> None:
        """Waits until an engine that is leaving has left."""
        assert self._lost is not None
        await asyncio.wait({self._lost}, timeout=HELLO_SECONDS)
        self._abort()
        # Somebody has to start the next one, and that is us: nobody else may be there.
        self._goodbye = ""

    async def _declare_held(self) -> None:
        """What the last engine knew of us, this one shall know too: it keeps workers for those who hold functions."""
        in_use = {stream.binding for stream in self._session.streams.values()}
        for key, binding in list(self.bindings.items()):
            if not binding.held:
                continue
            try:
                await self._declare(binding)
            except EngineError as error:
                binding.held = False
                del self.bindings[key]
                if binding in in_use:
                    self._tell_all(error, binding)

    # ── going down ────────────────────────────────────────────────────────────────────────────────

    def connection_lost(self, exc: Exception | None) -> None:
        self.up = False
        self._transport = self._sock = None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self.resume_writing()
        for stream in self._session.take_unrepeatable():
            stream.fail(_call_lost(stream.head))
        if self._session.streams and not self._closing:
            self._come_up()
        else:
            self._goodbye = ""  # nobody waits, so whoever calls next may start an engine at once

    def pause_writing(self) -> None:
        self._writable = self._writable or self.loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def cancels(self) -> list[bytes]:
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

    async def aclose(self) -> None:
        """Cancels what is under way and closes the connection."""
        self._closing = True
        if self._coming is not None and not self._coming.done():
            self._coming.cancel()
            await asyncio.wait({self._coming})
        if self._transport is not None and self._lost is not None:
            self._uncork()
            self._transport.writelines(self.cancels())
            self._transport.close()
            await asyncio.wait({self._lost}, timeout=1)
        self._closed()

    async def _watch_end_of_loop(self) -> None:
        """A generator that is closed when the loop is shut down, as `asyncio.run` does, takes the link with it."""
        if self._end_of_loop is None:
            self._end_of_loop = self._until_end_of_loop()
            await self._end_of_loop.__anext__()

    async def _until_end_of_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.aclose()

    async def give_up(self) -> None:
        """The interpreter ends while this loop runs in a thread: cancels what is awaited. Later calls are possible."""
        if self._transport is not None:
            self._uncork()
            self._transport.writelines(self.cancels())

    def leave(self) -> None:
        """The interpreter ends and the loop runs no more: says what has to be said straight to the socket."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._closing = True
            with suppress(OSError):
                sock.send(b"".join([*self._out, *self.cancels()]), socket.MSG_DONTWAIT)

    def abandon(self) -> None:
        """The loop was closed without the steps that end its generators: closes the socket, which it left open."""
        transport, self._transport = self._transport, None
        self.leave()
        # What the closed loop will not do any more. Its own transports have this method; those of uvloop, which closes
        # its sockets itself, do not.
        finish = getattr(transport, "_call_connection_lost", None)
        if finish is not None:
            finish(None)

    def disown(self) -> None:
        """In a forked child: closes our copy of the socket without a word, and without touching the poller."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with suppress(OSError):
                os.close(sock.detach())


class _Leaving(Exception):
    """The engine makes room for another one."""


class _LinkLost(Exception):
    """The connection ended while the link was coming up."""


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


def _large(parts: Sequence[Buffer]) -> bool:
    return len(parts) > 1 or len(parts[0]) > kinds.INLINE_LIMIT  # the first is a pickle, in bytes


async def _first_of(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


def _seen(task: asyncio.Task[Any]) -> None:
    """Looks at a task's exception, which somebody else reports."""
    if not task.cancelled():
        task.exception()


def _newer(ours: str, theirs: str) -> bool:
    return _numbers(ours) > _numbers(theirs)


def _numbers(version: str) -> list[int]:
    return [int(piece) for piece in version.split("+")[0].split(".") if piece.isdigit()]
