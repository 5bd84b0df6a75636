"""The worker at work: one job at a time on the main thread, from START to DONE.

The main thread reads the engine's stream itself while it has nothing to do: a call then costs no switch of
threads. Only while a call lasts must somebody else read (a cancellation, another stream, the end of the
host), so the *watcher* thread looks every 20 ms whether the same call is still running, and if so, reads in
its place. Short calls never meet it.

Coroutines run on one event loop that stays; tasks that user code leaves behind go on whenever it runs, that
is, during later asynchronous calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from runpod_flash.payload.functions import load_construction
from runpod_flash.payload.modules import SHIPPED
from runpod_flash.wire import blobs, frame, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.status_page import StatusPage
from runpod_flash.worker import progress, results
from runpod_flash.worker.context import CURRENT, JobContext, runs_alone
from runpod_flash.worker.instances import Instances, enter, has_entrance, method_of
from runpod_flash.worker.items import Items
from runpod_flash.worker.link import Key, Link, Start
from runpod_flash.worker.loaded import Functions, arguments
from runpod_flash.worker.meter import Meter
from runpod_flash.worker.output import LogPipe
from runpod_flash.worker.results import Ending

_TICK_S: Final = 0.02
_QUIET_TICKS: Final = 50

_TO_BE_RUN: Final = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
_now = time.monotonic_ns
_new = tuple.__new__  # what JobContext(…) does, without a Python function in between


class Worker:
    """Runs what the engine sends until it is told to leave."""

    def __init__(self, name: str, control: socket.socket, page: StatusPage, output: LogPipe, born: float) -> None:
        # For the life of the worker.
        self._name = name
        self._page = page
        self._output = output
        self.instances = Instances()
        self._link = link = Link(name, control, self, born)
        self.frames: Mapping[int, Callable[[Frame], None]] = {kinds.TAKEN: link.on_taken}
        self._functions = Functions()
        self._reporter = progress.REPORTER = progress.Reporter(link.send)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls = 0
        self._meter = Meter()
        # For the call that runs. `_lock` guards what a cancellation from the watcher looks at.
        self._lock = threading.Lock()
        self._running: Key | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ending: Ending | None = None

    def serve(self) -> None:
        """Serves until EXIT, or until a drained worker holds nothing any more."""
        threading.Thread(target=self._watch, name="flash-watcher", daemon=True).start()
        while True:
            try:
                start = self._next()
                if start is None:
                    break
                self._run(start)
                del start  # its arguments may be large, and the next may be long in coming
            except KeyboardInterrupt:
                continue  # a signal that arrived between two calls concerns nobody
            except _Terminated:
                break
        if self.instances:
            self._own_loop().run_until_complete(self.instances.end())

    def cancel_running(self, key: Key, cause: str) -> None:
        """Cancels the call if it is the one that runs and is asynchronous; called while others read."""
        with self._lock:
            if self._running == key and self._ending is None:
                self._end_early(results.cancelled(cause))

    def stream_ended(self) -> None:
        """Changes nothing for the call that runs: its result is kept for the next stream."""

    # ── taking turns ─────────────────────────────────────────────────────────────────────────────

    def _next(self) -> Start | None:
        link = self._link
        # Held while waiting, so that the watcher does not read what this thread would then not hear of.
        with link.reading:
            while not link.waiting:
                if link.leaving or (link.draining and link.idle()):
                    return None
                link.wait_and_read()
            start = link.waiting.popleft()
            self._running = start.key  # without the lock: who cancels would have to read first
            return start

    def _watch(self) -> None:
        link, quiet = self._link, 0
        while True:
            calls = self._calls
            time.sleep(_TICK_S)
            if self._calls != calls:
                quiet = 0  # short calls follow one another, and the main thread reads between them
                continue
            quiet += 1
            if self._running is None and quiet < _QUIET_TICKS:
                continue
            # One call has lasted a tick; or there has been none for a second, and the next wakes us.
            link.wait()
            self._read_unless_another()

    # ── one job ──────────────────────────────────────────────────────────────────────────────────

    def _run(self, start: Start) -> None:
        self._calls += 1
        self._output.begin(start.job_json, start.attempt)
        self._reporter.job = start.job
        job = _new(JobContext, (start.job, start.attempt, start.name, self._name))
        context = CURRENT.set(job)
        runs_alone(job)
        began = loaded = _now()
        step, items = "load", self._link.items(start) if start.stream else None
        try:
            function = self._functions.get(start.name, start.digest)
            if function is None:
                # From here on a crash is this job's; its time is counted when its own code begins.
                self._page.begin(start.job, start.epoch, start.attempt, 0)
                function = self._functions.load(start.name, start.digest)
                loaded = _now()
            self._page.begin(start.job, start.epoch, start.attempt, start.timeout_ms)
            SHIPPED.activate(start.digest)
            if start.instance:
                step = "user"
                function = self._method(start, function)
                loaded = _now()
            step = "bind"
            if start.encoding == "json":
                args, kwargs = self._json_arguments(start, function)
            else:
                args, kwargs = arguments(start.encoding, start.parts, start.blobs, self._link.blob_dir)
            step = "user"
            value = self._call(function, args, kwargs, start.timeout_ms, items)
            step = "encode"
            if self._ending is not None and self._ending.kind == "timeout":
                raise asyncio.CancelledError  # it went on regardless and came to an end within the grace
            if start.encoding == "json":
                result = results.completed_as_json([] if items is not None and value is None else value, self._link)
            else:
                result = results.completed(value, self._link, want_json=start.want_json)
        except BaseException as error:  # noqa: BLE001 — sys.exit() and Ctrl-C of user code end a job, no worker
            if items is not None and step == "user":
                step = items.step
            result = results.failed(error, step, Worker._call.__code__, self._ending, self._link)
        CURRENT.reset(context)
        runs_alone(None)
        ended = _now()
        self._page.end()
        if self._reporter.spoke:
            self._reporter.end()
        printed = self._output.end()
        with self._lock:
            self._running = self._task = self._ending = None
        of = f'"job":{start.job_json},"epoch":{start.epoch},{self._meter.read(ended - loaded)}'
        if items is not None and items.kept:
            of += f'"chunks":{items.count},'
        head = result.head(of, (loaded - began) // 1000, (ended - loaded) // 1000, printed)
        self._link.finish(start.key, frame.encode(kinds.DONE, head, result.parts))

    def _json_arguments(self, start: Start, function: Callable[..., Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        from runpod_flash.worker import json_input  # noqa: PLC0415 - calls from Python need nothing of it

        parts = blobs.gather(Path(self._link.blob_dir), start.parts, start.blobs) if start.blobs else start.parts
        return json_input.arguments(start.digest, function, parts[0])

    def _method(self, start: Start, construct: Callable[..., Any]) -> Callable[..., Any]:
        """The method of its instance, which is made if it does not live here; in the time of this call."""
        if start.drop:
            self._own_loop().run_until_complete(self.instances.end(start.drop))
        instance = self.instances.get(start.instance)
        if instance is None:
            signal.signal(signal.SIGTERM, self._terminated)
            args, kwargs = load_construction(start.instance)
            instance = construct(*args, **kwargs)
            if has_entrance(instance):
                self._await(enter(instance), start.timeout_ms)
            self.instances.add(start.instance, instance)
        return method_of(instance, start.name)

    def _terminated(self, number: int, _frame: object) -> None:
        """Asked to leave: what lives here gets the rest of the grace to close. A call that runs is not waited for."""
        if self._running is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise _Terminated

    def _call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        timeout_ms: int,
        items: Items | None,
    ) -> Any:
        value = function(*args, **kwargs)
        kind = type(value)
        if kind not in _TO_BE_RUN and not hasattr(kind, "__await__"):
            return value
        if kind is CoroutineType:
            return self._await(value, timeout_ms)
        if kind is GeneratorType:
            return self._step(value, timeout_ms, items)
        if kind is AsyncGeneratorType:
            return self._await(_collect(value) if items is None else self._flow(value, items), timeout_ms)
        return self._await(_awaited(value), timeout_ms)

    # ── generators ───────────────────────────────────────────────────────────────────────────────

    def _step(self, generator: GeneratorType[Any, None, None], timeout_ms: int, items: Items | None) -> Any:
        """Runs a generator here, from item to item: between two of them it can be ended, and its `finally` runs."""
        collected: list[Any] = []
        until = _now() + timeout_ms * 1_000_000 if timeout_ms else None
        with contextlib.closing(generator):
            for item in generator:
                if items is None:
                    collected.append(item)
                else:
                    items.put(item)
                    while items.full and self._goes_on(timeout_ms, until):
                        self._read_for(items, until)
                if not self._goes_on(timeout_ms, until):
                    raise asyncio.CancelledError
        return collected if items is None else None

    def _goes_on(self, timeout_ms: int, until: int | None) -> bool:
        if until is not None and _now() > until:
            with self._lock:
                self._ending = self._ending or results.timed_out(timeout_ms)
        return self._ending is None

    def _read_for(self, items: Items, until: int | None) -> None:
        """Waits for word from the engine. The watcher may read it first, so this looks again once it has its turn."""
        with self._link.reading:
            if items.full and self._ending is None:
                self._link.wait_and_read(-1 if until is None else max(0.0, (until - _now()) / 1e9))

    async def _flow(self, generator: AsyncGeneratorType[Any, None], items: Items) -> None:
        """The same for an asynchronous one. The loop reads, for the watcher looks too seldom for item after item."""
        loop, number = asyncio.get_running_loop(), self._link.fileno()
        if number is not None:
            loop.add_reader(number, self._read_unless_another)
        try:
            async with contextlib.aclosing(generator):
                async for item in generator:
                    await items.give(item)
        finally:
            if number is not None:
                loop.remove_reader(number)

    def _read_unless_another(self) -> None:
        if self._link.reading.acquire(blocking=False):
            try:
                self._link.read()
            finally:
                self._link.reading.release()

    # ── asynchronous calls ───────────────────────────────────────────────────────────────────────

    def _await(self, coroutine: Coroutine[Any, Any, Any], timeout_ms: int) -> Any:
        loop = self._own_loop()
        task = loop.create_task(coroutine)
        with self._lock:
            self._task = task
            if self._ending is not None:  # cancelled while its arguments were read
                task.cancel()
        timer = loop.call_later(timeout_ms / 1000, self._expire, timeout_ms) if timeout_ms else None
        try:
            return loop.run_until_complete(task)
        finally:
            if timer is not None:
                timer.cancel()
            if not task.done():  # a signal, or sys.exit() in another task, broke into the loop
                task.cancel()
                with contextlib.suppress(BaseException):
                    loop.run_until_complete(task)

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = self._loop or asyncio.new_event_loop()
        return self._loop

    def _expire(self, timeout_ms: int) -> None:
        with self._lock:
            if self._ending is None:
                self._end_early(results.timed_out(timeout_ms))

    def _end_early(self, ending: Ending) -> None:
        self._ending = ending
        if self._task is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)


class _Terminated(BaseException):
    """SIGTERM came between two calls."""


async def _collect(generator: AsyncGeneratorType[Any, None]) -> list[Any]:
    return [item async for item in generator]


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
