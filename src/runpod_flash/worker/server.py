"""A worker of a load-balanced endpoint: many calls at once, on one event loop.

Coroutine functions are tasks of the main thread's loop. Plain functions have threads of a pool, so that they do
not stand in each other's way; where the worker takes one call at a time, the main thread itself, which is where
libraries for GPUs, signals and user interfaces want to be.

Nothing is kept for sending again: if the stream ends, whoever called is told that the call was lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from runpod_flash.payload.modules import SHIPPED
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker import results
from runpod_flash.worker.context import CURRENT, JobContext
from runpod_flash.worker.link import Key, Link, decode_head
from runpod_flash.worker.loaded import Functions, arguments
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.results import Ending, Result

_GRACE_S: Final = 5.0

_now = time.monotonic_ns


class Invoke:
    """An INVOKE as it arrived, and how its call is doing."""

    __slots__ = ("blobs", "call", "digest", "encoding", "ending", "name", "parts", "sid", "task", "timeout_ms")

    def __init__(self, head: dict[str, Any], parts: tuple[bytes, ...], sid: int) -> None:
        self.sid = sid
        self.call: str = head["call"]
        self.name: str = head["name"]
        self.digest: str = head["digest"]
        self.timeout_ms: int = head.get("timeout_ms", 0)
        self.encoding: str = head.get("encoding", "pickle")
        self.blobs: list[list[int | str]] = head.get("blobs", ())
        self.parts = parts
        self.task: asyncio.Task[None] | None = None
        self.ending: Ending | None = None


class Server:
    """Runs what the engine sends, many at once, until it is told to leave."""

    def __init__(self, name: str, control: socket.socket, output: LogPipe, born: float, threads: int) -> None:
        self._name = name
        self._output = output
        self.frames: Mapping[int, Callable[[Frame], None]] = {kinds.INVOKE: self._on_invoke}
        self._link = Link(name, control, self, born)
        self._functions = Functions()
        self._invoked: dict[str, Invoke] = {}
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call") if threads > 1 else None
        output.share()

    def serve(self) -> None:
        """Serves until EXIT, or until a drained worker holds nothing any more."""
        self._loop.run_until_complete(self._serve())

    # ── what the link asks ───────────────────────────────────────────────────────────────────────

    def _on_invoke(self, message: Frame) -> None:
        invoke = Invoke(decode_head(message.head), message.parts, message.sid)
        self._invoked[invoke.call] = invoke
        invoke.task = self._loop.create_task(self._run(invoke))

    def cancel_running(self, key: Key, cause: str) -> None:
        """Its caller does not want a call any more. A plain function cannot be interrupted, and runs to its end."""
        invoke = self._invoked.get(key[0])
        if invoke is not None:
            self._end_early(invoke, results.cancelled(cause))

    # ── serving ──────────────────────────────────────────────────────────────────────────────────

    async def _serve(self) -> None:
        read: Callable[[], None] = self._read
        self._left = self._loop.create_future()
        number = self._link.fileno()
        if number is not None:
            self._loop.add_reader(number, read)
        else:  # no descriptor stands for all that is read: somebody has to wait in a thread
            threading.Thread(target=self._wait, name="flash-reader", daemon=True).start()
        await self._left

    def _read(self) -> None:
        self._link.read()
        if self._link.leaving or (self._link.draining and not self._invoked):
            self._leave()

    def _wait(self) -> None:
        while True:
            self._link.wait()
            done = threading.Event()
            self._loop.call_soon_threadsafe(self._read_and_tell, done)
            done.wait()

    def _read_and_tell(self, done: threading.Event) -> None:
        self._read()
        done.set()

    def _leave(self) -> None:
        if not self._left.done():
            self._left.set_result(None)

    # ── one call ─────────────────────────────────────────────────────────────────────────────────

    async def _run(self, invoke: Invoke) -> None:
        CURRENT.set(JobContext(invoke.call, 0, invoke.name, self._name))
        began = loaded = _now()
        step = "load"
        timer: asyncio.TimerHandle | None = None
        try:
            function = self._functions.get(invoke.name, invoke.digest)
            if function is None:
                function = self._functions.load(invoke.name, invoke.digest)
                loaded = _now()
            SHIPPED.activate(invoke.digest)
            step = "bind"
            args, kwargs = arguments(invoke.encoding, invoke.parts, invoke.blobs, self._link.blob_dir)
            invoke.parts = ()
            step = "user"
            if invoke.timeout_ms:
                timer = self._loop.call_later(invoke.timeout_ms / 1000, self._expire, invoke)
            value = await self._call(function, args, kwargs)
            step = "encode"
            if invoke.ending is not None and invoke.ending.kind == "timeout":
                raise asyncio.CancelledError  # it went on regardless and came to an end within the grace
            result = results.completed(value, self._link)
        except BaseException as error:  # noqa: BLE001 — sys.exit() of user code ends a call, no worker
            result = results.failed(error, step, Server._call.__code__, invoke.ending, self._link)
        if timer is not None:
            timer.cancel()
        self._answer(invoke, result, (loaded - began) // 1000, (_now() - loaded) // 1000)

    async def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._threads is None or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return await _ended(function(*args, **kwargs))
        context = contextvars.copy_context()
        value = await self._loop.run_in_executor(self._threads, lambda: context.run(_plain, function, args, kwargs))
        return await _ended(value)

    def _answer(self, invoke: Invoke, result: Result, load_us: int, run_us: int, *, stuck: bool = False) -> None:
        if self._invoked.pop(invoke.call, None) is None:
            return  # it was answered when its time was over
        printed = self._output.end_of(invoke.call)
        head = result.head("", load_us, run_us, printed, stuck)
        self._link.send(frame.encode(kinds.RETURNED, head, result.parts, sid=invoke.sid, flags=kinds.END))
        if self._link.draining and not self._invoked:
            self._leave()

    # ── early ends ───────────────────────────────────────────────────────────────────────────────

    def _expire(self, invoke: Invoke) -> None:
        self._end_early(invoke, results.timed_out(invoke.timeout_ms))
        self._loop.call_later(_GRACE_S if inspect.iscoroutinefunction(self._of(invoke)) else 0, self._give_up, invoke)

    def _of(self, invoke: Invoke) -> Any:
        return self._functions.get(invoke.name, invoke.digest)

    def _end_early(self, invoke: Invoke, ending: Ending) -> None:
        if invoke.ending is None:
            invoke.ending = ending
            if inspect.iscoroutinefunction(self._of(invoke)) and invoke.task is not None:
                invoke.task.cancel()

    def _give_up(self, invoke: Invoke) -> None:
        """A call that does not end holds this worker; the engine replaces it."""
        if invoke.call in self._invoked:
            error = results.failed(asyncio.CancelledError(), "user", Server._call.__code__, invoke.ending, self._link)
            self._answer(invoke, error, 0, invoke.timeout_ms * 1000, stuck=True)


def _plain(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return list(value) if type(value) is GeneratorType else value


async def _ended(value: Any) -> Any:
    """What a call came to, whatever kind of thing it returned."""
    kind = type(value)
    if kind is CoroutineType or hasattr(kind, "__await__"):
        return await value
    if kind is AsyncGeneratorType:
        return [item async for item in value]
    return list(value) if kind is GeneratorType else value
