"""The SDK's own event loop in its own thread, for callers that block. Started by the first of them."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

from runpod_flash.errors import EngineUnavailable, UsageError, call_site

T = TypeVar("T")

CANCEL_SECONDS: Final = 2.0
"""How long a call that was interrupted may take to say so to the engine."""


class NoThread(EngineUnavailable):
    """No thread can be started: the interpreter is ending (from 3.12 on), or the system has none left."""


_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end and returns its result. Ctrl-C cancels it."""
    _check_thread(work)
    try:
        running = loop()
    except NoThread:
        return asyncio.run(work)
    # There before the work begins: Ctrl-C can come at any moment from then on.
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        running.call_soon_threadsafe(_begin, work, future)
        return future.result()
    except concurrent.futures.CancelledError:
        if threading.main_thread().is_alive():
            raise
        # The interpreter is ending, and this is a daemon thread: it ends with it, without a traceback.
        raise SystemExit from None
    except BaseException:
        if not future.done():
            future.cancel()
            # The cancellation has to reach the engine before this thread, and with it perhaps the program, ends.
            with suppress(BaseException):
                concurrent.futures.wait([future], CANCEL_SECONDS)
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop()).result(CANCEL_SECONDS)
        raise


def submit(work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Starts a coroutine; its future may be waited for in any thread but the loop's own."""
    _check_thread(work)
    future: concurrent.futures.Future[T] = concurrent.futures.Future()
    loop().call_soon_threadsafe(_begin, work, future)
    return future


def _check_thread(work: Coroutine[Any, Any, T]) -> None:
    if threading.current_thread() is _thread:
        work.close()
        raise UsageError(
            "a blocking call was made on the SDK's own event loop",
            where=call_site(),
            why="the loop would wait for itself",
            fix="await the call instead: leave out .sync",
        )


def _begin(work: Coroutine[Any, Any, T], future: concurrent.futures.Future[T]) -> None:
    """On the loop: what asyncio.run_coroutine_threadsafe does, for a future that is there already."""
    if future.cancelled():
        work.close()
        return
    running = asyncio.get_running_loop()
    task = running.create_task(work)

    def told(_: object) -> None:
        if future.cancelled() and not running.is_closed():
            running.call_soon_threadsafe(task.cancel)

    task.add_done_callback(lambda _: _tell(task, future))
    future.add_done_callback(told)


def _tell(task: asyncio.Task[T], future: concurrent.futures.Future[T]) -> None:
    if task.cancelled():
        future.cancel()
    if not future.set_running_or_notify_cancel():
        return
    if (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def iterate(items: AsyncIterator[T]) -> Iterator[T]:
    """An async iterator as an ordinary one."""
    end: Any = object()

    async def advance() -> T:
        return await anext(items, end)

    try:
        while (item := run(advance())) is not end:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            run(close())


def loop() -> asyncio.AbstractEventLoop:
    """The loop, running."""
    global _loop, _thread
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop, _thread = _start()
        return _loop


def _start() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_serve, args=(loop,), name="flash-sync", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        loop.close()
        raise NoThread("blocking calls have an event loop in a thread of their own", why=str(error)) from None
    return loop, thread


def stop() -> None:
    """Ends the loop and its thread; what is under way is cancelled. The next call starts another."""
    global _loop, _thread
    with _lock:
        loop, thread = _loop, _thread
        _loop = _thread = None
    if loop is not None and thread is not None and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CANCEL_SECONDS)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        # The same steps as asyncio.run, so that links close in the same way.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _forget() -> None:
    """In a forked child: the thread was not forked along."""
    global _lock, _loop, _thread
    _lock = threading.Lock()
    if _loop is not None:
        _abandoned.append(_loop)
    _loop = _thread = None


_abandoned: list[asyncio.AbstractEventLoop] = []  # kept: closing one would close what it shares with the parent

# A thread that ran on to the last moment would keep everything alive that it refers to, such as the user's open files.
atexit.register(stop)
os.register_at_fork(after_in_child=_forget)
