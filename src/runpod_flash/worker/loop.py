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
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, NamedTuple

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec, failures, json_view
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import load_function
from runpod_flash.payload.modules import SHIPPED
from runpod_flash.wire import blobs, frame, kinds
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.status_page import StatusPage
from runpod_flash.worker.context import CURRENT, JobContext
from runpod_flash.worker.link import Key, Link, Start
from runpod_flash.worker.output import LogPipe

_TICK_S: Final = 0.02
_QUIET_TICKS: Final = 50
_VERSIONS_KEPT: Final = 4

_now = time.monotonic_ns


class Worker:
    """Runs what the engine sends until it is told to leave."""

    def __init__(self, name: str, control: socket.socket, page: StatusPage, output: LogPipe, born: float) -> None:
        # For the life of the worker.
        self._name = name
        self._page = page
        self._output = output
        self._link = Link(name, control, self, born)
        self._functions: dict[str, dict[str, Callable[..., Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls = 0
        # For the call that runs. `_lock` guards what a cancellation from the watcher looks at.
        self._lock = threading.Lock()
        self._running: Key | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ending: _Ending | None = None

    def serve(self) -> None:
        """Serves until EXIT, or until a drained worker holds nothing any more."""
        threading.Thread(target=self._watch, name="flash-watcher", daemon=True).start()
        while True:
            try:
                start = self._next()
                if start is None:
                    return
                self._run(start)
                del start  # its arguments may be large, and the next may be long in coming
            except KeyboardInterrupt:
                continue  # a signal that arrived between two calls concerns nobody

    def cancel_running(self, key: Key, cause: str) -> None:
        """Cancels the call if it is the one that runs and is asynchronous; called while others read."""
        with self._lock:
            if self._running == key and self._ending is None:
                self._end_early(
                    _Ending("cancelled", "JobCancelled", f"cancelled: {cause or 'asked for'}", "runpod_flash.errors")
                )

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
            with self._lock:
                self._running = start.key
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
            if link.reading.acquire(blocking=False):
                try:
                    link.read()
                finally:
                    link.reading.release()

    # ── one job ──────────────────────────────────────────────────────────────────────────────────

    def _run(self, start: Start) -> None:
        self._calls += 1
        self._output.begin(start.job_json, start.attempt)
        context = CURRENT.set(JobContext(start.job, start.attempt, start.name, self._name))
        began = loaded = _now()
        step = "load"
        try:
            function = self._functions.get(start.name, {}).get(start.digest)
            if function is None:
                # From here on a crash is this job's; its time is counted when its own code begins.
                self._page.begin(start.job, start.epoch, start.attempt, 0)
                function = self._load(start.name, start.digest)
                loaded = _now()
            self._page.begin(start.job, start.epoch, start.attempt, start.timeout_ms)
            SHIPPED.activate(start.digest)
            step = "bind"
            args, kwargs = self._arguments(start)
            step = "user"
            value = self._call(function, args, kwargs, start.timeout_ms)
            step = "encode"
            result = self._completed(value, start.want_json)
        except BaseException as error:  # noqa: BLE001 — sys.exit() and Ctrl-C of user code end a job, no worker
            result = self._failed(error, step)
        CURRENT.reset(context)
        ended = _now()
        self._page.end()
        printed = self._output.end()
        with self._lock:
            self._running = self._task = self._ending = None
        head = result.head(start, (loaded - began) // 1000, (ended - loaded) // 1000, printed)
        self._link.finish(start.key, frame.encode(kinds.DONE, head, result.parts))

    def _load(self, name: str, digest: str) -> Callable[..., Any]:
        function = load_function(digest)
        versions = self._functions.setdefault(name, {})
        versions[digest] = function
        if len(versions) > _VERSIONS_KEPT:
            oldest = next(iter(versions))
            del versions[oldest]
            TABLE.forget(oldest)
        return function

    def _arguments(self, start: Start) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if start.encoding != "pickle":
            raise EncodingError(
                f"this worker does not read arguments encoded as {start.encoding!r}",
                why="the program that calls is of another version than the one that declared the function",
            )
        parts: Sequence[Buffer] = start.parts
        if start.blobs:
            parts = blobs.gather(Path(self._link.blob_dir), parts, start.blobs)
        args, kwargs = codec.decode(parts)
        return args, kwargs

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], timeout_ms: int
    ) -> Any:
        value = function(*args, **kwargs)
        kind = type(value)
        if kind is CoroutineType:
            return self._await(value, timeout_ms)
        if kind is GeneratorType:
            return list(value)
        if kind is AsyncGeneratorType:
            return self._await(_collect(value), timeout_ms)
        if hasattr(kind, "__await__"):
            return self._await(_awaited(value), timeout_ms)
        return value

    # ── asynchronous calls ───────────────────────────────────────────────────────────────────────

    def _await(self, coroutine: Coroutine[Any, Any, Any], timeout_ms: int) -> Any:
        loop = self._loop = self._loop or asyncio.new_event_loop()
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

    def _expire(self, timeout_ms: int) -> None:
        with self._lock:
            if self._ending is None:
                self._end_early(
                    _Ending(
                        "timeout",
                        "TimeoutError",
                        f"it took longer than its timeout of {timeout_ms / 1000:g} s",
                        "builtins",
                    )
                )

    def _end_early(self, ending: _Ending) -> None:
        self._ending = ending
        if self._task is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    # ── results ──────────────────────────────────────────────────────────────────────────────────

    def _completed(self, value: Any, want_json: bool) -> _Result:
        if self._ending is not None and self._ending.kind == "timeout":
            raise asyncio.CancelledError  # it went on regardless and came to an end within the grace
        encoded = codec.encode(value, define=False)
        view, json_error = _json_view(value, encoded.parts) if want_json else (None, "")
        parts, moved = self._packed([*encoded.parts, view] if view is not None else encoded.parts)
        count = len(encoded.parts)
        return _Result(parts, moved, encoded.defs, count, 0, view is not None, json_error, None)

    def _failed(self, error: BaseException, step: str) -> _Result:
        if step == "user" and isinstance(error, TypeError) and _raised_by_the_call_itself(error):
            step = "bind"
        failure = failures.record(error, step)
        ending = self._ending
        if ending is not None and (ending.kind == "timeout" or isinstance(error, asyncio.CancelledError)):
            facts = {"type": ending.type, "message": ending.message, "kind": ending.kind, "module": ending.module}
            return _Result((), [], [], 0, 0, False, "", {**failure.error, **facts})
        try:
            parts, moved = self._packed(failure.parts)
        except (OSError, EncodingError):  # no room for a large exception: its text will do
            return _Result((), [], [], 0, 0, False, "", failure.error)
        return _Result(parts, moved, failure.defs, 0, len(parts), False, "", failure.error)

    def _packed(self, parts: Sequence[Buffer]) -> tuple[Sequence[Buffer], list[tuple[int, str, int]]]:
        if len(parts) == 1 and len(parts[0]) <= kinds.INLINE_LIMIT:
            return parts, []
        limit = self._link.max_value
        if limit and codec.size(parts) > limit:
            raise codec.too_large(codec.size(parts), limit)
        folder, sync = Path(self._link.blob_dir), self._link.sync_blobs
        return blobs.spill(parts, lambda part: blobs.write(folder, part, sync=sync))


class _Ending(NamedTuple):
    """Why an asynchronous call is being cancelled."""

    kind: str
    type: str
    message: str
    module: str


class _Result(NamedTuple):
    """What an attempt came to: the parts of a DONE, and what its head says of them."""

    parts: Sequence[Buffer]
    moved: list[tuple[int, str, int]]
    defs: list[str]
    values: int
    excs: int
    json: bool
    json_error: str
    error: dict[str, str] | None

    def head(self, start: Start, load_us: int, run_us: int, logs: bool) -> bytes:
        """The head of the DONE."""
        ok = "true" if self.error is None else "false"
        common = f'{{"job":{start.job_json},"epoch":{start.epoch},"ok":{ok},"values":{self.values},"run_us":{run_us}'
        if not (load_us or logs or any(self[1:3]) or any(self[4:])):
            return f"{common}}}".encode()
        rest = {
            "excs": self.excs,
            "json": int(self.json),
            "blobs": self.moved,
            "defs": self.defs,
            "load_us": load_us,
            "logs": logs,
            "json_error": self.json_error,
            "error": self.error,
        }
        return f"{common},{json.dumps({name: value for name, value in rest.items() if value})[1:]}".encode()


def _json_view(value: Any, parts: Sequence[Buffer]) -> tuple[bytes | None, str]:
    if codec.size(parts) > json_view.LIMIT:
        return None, f"the result is larger than {json_view.LIMIT // 1024} KiB, so there is no JSON view of it"
    try:
        return json_view.view(value), ""
    except json_view.NotJson as error:
        return None, str(error)


def _raised_by_the_call_itself(error: BaseException) -> bool:
    """Whether no user code ran: the traceback ends in the frame that makes the call."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is Worker._call.__code__


async def _collect(generator: AsyncGeneratorType[Any, None]) -> list[Any]:
    return [item async for item in generator]


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
