"""A worker of a load-balanced endpoint: many calls at once, on one event loop.

Coroutine functions are tasks of the main thread's loop. Plain functions have threads of a pool, so that they do
not stand in each other's way; where the worker takes one call at a time, the main thread itself, which is where
libraries for GPUs, signals and user interfaces want to be.

Nothing is kept for sending again: if the stream ends, whoever called is told that the call was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import AsyncGeneratorType, CodeType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from runpod_flash.payload.functions import load_construction
from runpod_flash.payload.modules import SHIPPED
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.worker import results
from runpod_flash.worker.call import Arguments, Call, Facts, Finish, stepped
from runpod_flash.worker.context import CURRENT, JobContext
from runpod_flash.worker.deadlines import Deadlines
from runpod_flash.worker.event_loop import EventLoop
from runpod_flash.worker.instances import Instances, enter, method_of
from runpod_flash.worker.items import Items
from runpod_flash.worker.link import Key, Link, decode_head
from runpod_flash.worker.loaded import Functions, arguments
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.results import Ending, Result
from runpod_flash.worker.selector import Selector

if TYPE_CHECKING:
    from runpod_flash.worker.http.exchange import Exchanges

logger = logging.getLogger(__name__)

_GRACE_S: Final = 5.0
_GENERATORS: Final = GeneratorType, AsyncGeneratorType
_ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

_now = time.monotonic_ns
_new = tuple.__new__  # what Facts(…) does, without a Python function in between


class Invoke(Call):
    """A call from a program: pickled arguments, and a pickled answer."""

    items: Items | None = None
    """Where what it yields goes, if somebody reads that."""

    def __init__(self, message: Frame, link: Link, runner: Server) -> None:
        head = decode_head(message.head)
        super().__init__(head["call"], head, message.sid)
        self._head = head
        self._parts = message.parts
        self._link = link
        self._runner = runner
        if "stream" in head:
            self.items = Items(link, link.send, sid=self.sid)

    def arguments(self, function: Callable[..., Any]) -> Arguments:
        head, parts = self._head, self._parts
        self._head, self._parts = {}, ()
        return arguments(head.get("encoding", "pickle"), parts, head.get("blobs", ()), self._link.blob_dir)

    def complete(self, value: Any) -> Finish | Coroutine[Any, Any, Finish]:
        if isinstance(value, _GENERATORS):
            return self._collected(value)
        return partial(self._returned, results.completed(value, self._link))

    async def _collected(self, generator: GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]) -> Finish:
        return partial(self._returned, results.completed(await self._all(generator), self._link))

    async def _all(self, generator: GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]) -> list[Any] | None:
        """The list of what it yields; nothing, where somebody has read it as it came."""
        if self.items is None and isinstance(generator, GeneratorType):
            return await self._runner.in_thread(self, partial(list, generator))  # type: ignore[no-any-return]
        found: list[Any] = []
        steps = stepped(self, self._runner, generator) if isinstance(generator, GeneratorType) else generator
        async with contextlib.aclosing(steps):
            async for item in steps:
                if self.items is None:
                    found.append(item)
                else:
                    await self.items.give(item)
        return found if self.items is None else None

    def failed(self, error: BaseException, step: str, caller: CodeType) -> Finish:
        if self.items is not None and step == "user":
            step = self.items.step
        return partial(self._returned, results.failed(error, step, caller, self.ending, self._link))

    def _returned(self, result: Result, facts: Facts) -> bytes:
        head = result.head("", *facts)
        return frame.encode(kinds.RETURNED, head, result.parts, sid=self.sid, flags=kinds.END)


class Server:
    """Runs what the engine sends, many at once, until it is told to leave."""

    def __init__(self, name: str, control: socket.socket, output: LogPipe, born: float, threads: int) -> None:
        self._name = name
        self._output = output
        self.frames: Mapping[int, Callable[[Frame], None]] = {
            kinds.INVOKE: self._on_invoke,
            kinds.HTTP_REQ: self._on_request,
            kinds.DATA: self._on_data,
            kinds.CREDIT: self._on_credit,
            kinds.TAKEN: self._on_taken,
        }
        self.instances = Instances()
        self._making: dict[str, asyncio.Task[Any]] = {}  # instances that are being made
        self._selector = Selector(self._read)
        self._link = Link(name, control, self, born)
        self._functions = Functions()
        self._calls: dict[str, Call] = {}
        self._items: dict[int, Items] = {}  # of calls that yield, by their streams
        # Those, too, that were answered and have something left to do.
        self._at_work: set[Call] = set()
        self._exchanges: Exchanges | None = None
        self._loop = loop = EventLoop(self._selector)
        self._left = loop.create_future()
        self._deadlines = Deadlines(loop, self._expire)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call") if threads > 1 else None
        output.share()

    def serve(self) -> None:
        """Serves until EXIT, or until a drained worker holds nothing any more."""
        self._loop.run_until_complete(self._serve())

    # ── what the link asks ───────────────────────────────────────────────────────────────────────

    def _on_invoke(self, message: Frame) -> None:
        invoke = Invoke(message, self._link, self)
        if invoke.items is not None:
            self._items[invoke.sid] = invoke.items
        self._begin(invoke)

    def _on_taken(self, message: Frame) -> None:
        items = self._items.get(message.sid)
        if items is not None:
            items.taken(decode_head(message.head)["upto"])

    def _on_request(self, message: Frame) -> None:
        if self._exchanges is None:
            from runpod_flash.worker.http.exchange import Exchanges  # noqa: PLC0415 - many workers never see one

            self._exchanges = Exchanges(self, self._link.send)
        self._begin(self._exchanges.begin(message))

    def _on_data(self, message: Frame) -> None:
        if self._exchanges is not None:
            self._exchanges.on_data(message)

    def _on_credit(self, message: Frame) -> None:
        if self._exchanges is not None:
            self._exchanges.on_credit(message)

    def cancel_running(self, key: Key, cause: str) -> None:
        """Its caller does not want a call any more. A plain function cannot be interrupted, and runs to its end."""
        call = self._calls.get(key[0])
        if call is not None:
            self._end_early(call, results.cancelled(cause))

    def stream_ended(self) -> None:
        """Nobody waits for any call: what could end does, and what answers nevertheless is not sent.

        The engine of the next stream counts its streams anew, and would take it for the answer to another call.
        """
        calls, self._calls = self._calls, {}
        self._items.clear()
        if self._exchanges is not None:
            self._exchanges.stream_ended()
        for call in calls.values():
            self._end_early(call, results.cancelled("its engine is gone"))

    # ── serving ──────────────────────────────────────────────────────────────────────────────────

    async def _serve(self) -> None:
        self._link.read_with(self._selector)
        await self._left
        await self.instances.end()

    def _read(self, descriptor: int) -> None:
        try:
            self._link.read_from(descriptor)
        except Exception:  # a bug of ours, or of the engine's: it costs what came, and no other call
            logger.exception("what the engine sent could not be read")
        if self._link.draining or self._link.leaving:
            self._leave_if_told()

    def _leave_if_told(self) -> None:
        if self._link.leaving:
            self._leave()
        self._leave_if_drained()

    def _leave_if_drained(self) -> None:
        if self._link.draining and not self._at_work:
            self._leave()

    def _leave(self) -> None:
        if not self._left.done():
            self._left.set_result(None)

    # ── one call ─────────────────────────────────────────────────────────────────────────────────

    def _begin(self, call: Call) -> None:
        self._calls[call.call] = call
        self._at_work.add(call)
        call.task = self._loop.begin(self._run(call))

    async def _run(self, call: Call) -> None:
        CURRENT.set(_new(JobContext, (call.call, 0, call.name, self._name)))
        call.running = True
        call.began = call.loaded = _now()
        step = "load"
        try:
            if call.ending is not None:
                raise asyncio.CancelledError
            function = self._functions.get(call.name, call.digest)
            if function is None:
                function = self._functions.load(call.name, call.digest)
                call.loaded = _now()
            if call.instance:
                SHIPPED.activate(call.digest)
                step = "user"
                self._deadlines.set(call)
                function = await self._method(call, function)
                call.loaded = _now()
            step = "bind"
            arguments = call.arguments(function)
            args, kwargs = arguments if type(arguments) is tuple else await arguments  # type: ignore[misc]
            step = "user"
            if not call.instance:
                self._deadlines.set(call)
            SHIPPED.activate(call.digest)  # others may have run while it was loaded, or its arguments arrived
            value = self._call(call, function, args, kwargs)
            if type(value) is CoroutineType or hasattr(type(value), "__await__"):
                value = await value
            if type(value) not in _GENERATORS:
                step = "encode"
            if call.timed_out or call.call not in self._calls:
                raise asyncio.CancelledError  # it went on regardless, and nobody waits any more
            finish: Any = call.complete(value)
            if type(finish) is CoroutineType:
                finish = await finish
        except BaseException as error:  # noqa: BLE001 — sys.exit() of user code ends a call, no worker
            finish = call.failed(error, step, Server._call.__code__)
        self._deadlines.drop(call)
        self.answer(call, finish)
        self._at_work.discard(call)
        if self._link.draining:
            self._leave_if_drained()

    async def _method(self, call: Call, construct: Callable[..., Any]) -> Callable[..., Any]:
        """The method of its instance; of calls that come while it is made, all wait for the one that makes it."""
        if call.drop:
            await self.instances.end(call.drop)
        instance = self.instances.get(call.instance)
        if instance is None:
            making = self._making.get(call.instance)
            if making is None:
                making = self._making[call.instance] = self._loop.create_task(self._make(call, construct))
                self._loop.add_signal_handler(signal.SIGTERM, self._leave)
            instance = await asyncio.shield(making)
        return method_of(instance, call.name)

    async def _make(self, call: Call, construct: Callable[..., Any]) -> Any:
        try:
            args, kwargs = load_construction(call.instance)
            # Loading a model takes long, and the calls of others go on meanwhile.
            instance = await self.in_thread(call, partial(construct, *args, **kwargs))
            await enter(instance)
            self.instances.add(call.instance, instance)
            return instance
        finally:
            del self._making[call.instance]

    def _call(self, call: Call, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What the function gives, or something to be awaited for it."""
        if self._threads is None or _is_async(function):
            return function(*args, **kwargs)
        return self._threaded(call, partial(function, *args, **kwargs))

    async def _threaded(self, call: Call, function: Callable[[], Any]) -> Any:
        value = await self.in_thread(call, function)
        if type(value) is CoroutineType or hasattr(type(value), "__await__"):
            return await value
        return value

    async def in_thread(self, call: Call, function: Callable[[], Any]) -> Any:
        """Runs plain code without keeping the others waiting; the main thread does where it has one call at a time."""
        if self._threads is None:
            await asyncio.sleep(0)  # what was sent meanwhile is heard of
            return function()
        call.in_thread = True
        try:
            run = contextvars.copy_context().run
            value, error = await self._loop.run_in_executor(self._threads, run, _outcome, function)
        finally:
            call.in_thread = False
        if error is not None:
            raise error
        return value

    def answer(self, call: Call, finish: Finish, *, stuck: bool = False) -> None:
        """Sends the last frame of a call, and lets go of it; what it prints from here on is still its own."""
        printed = self._output.end_of(call.call)
        if self._calls.pop(call.call, None) is None:
            return  # it was answered when its time was over, or before it did what was left to do
        if self._items:
            self._items.pop(call.sid, None)
        loaded = call.loaded
        facts = _new(Facts, ((loaded - call.began) // 1000, (_now() - loaded) // 1000, printed, stuck))
        self._link.send(finish(facts))

    def untime(self, call: Call) -> None:
        """An answer that has begun may take as long as it takes."""
        self._deadlines.drop(call)

    # ── early ends ───────────────────────────────────────────────────────────────────────────────

    def _expire(self, call: Call) -> None:
        grace = 0 if call.in_thread else _GRACE_S
        self._end_early(call, results.timed_out(call.timeout_ms))
        self._loop.call_later(grace, self._give_up, call)

    def _end_early(self, call: Call, ending: Ending) -> None:
        if call.ending is None:
            call.ending = ending
            if call.running and not call.in_thread and call.task is not None:
                call.task.cancel()

    def _give_up(self, call: Call) -> None:
        """A call that does not end holds this worker; the engine replaces it."""
        if call.call in self._calls:
            self.answer(call, call.failed(asyncio.CancelledError(), "user", Server._call.__code__), stuck=True)


def _is_async(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _ASYNC)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)  # a partial, say


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What it gave or raised. A future would replace a TimeoutError by another one, and cannot hold StopIteration."""
    try:
        return function(), None
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is raised again, where it is awaited
        return None, error
