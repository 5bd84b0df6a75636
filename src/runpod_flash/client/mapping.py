"""One call for each of many inputs: read lazily, a bounded number under way, results in order or as they come."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final

from runpod_flash.client import background
from runpod_flash.client.calls import Call
from runpod_flash.client.function import RemoteFunction
from runpod_flash.errors import UsageError, call_site, shown

_Input = Iterable[Any] | AsyncIterable[Any]
_END: Final = object()


def zipped(inputs: tuple[_Input, ...]) -> _Input:
    """One iterable of argument tuples from several that go side by side."""
    if not inputs:
        raise UsageError(
            "map() needs something to go through",
            where=call_site(),
            why="it calls the function once for each item",
            fix="write fn.map(xs)",
        )
    for one in inputs:
        if not isinstance(one, Iterable | AsyncIterable):
            raise UsageError(f"map() cannot go through {shown(one)}", where=call_site(), why="it is not iterable")
    if any(isinstance(one, AsyncIterable) for one in inputs):
        return _zipped_async(inputs)
    return zip(*inputs, strict=False)


async def _zipped_async(inputs: tuple[_Input, ...]) -> AsyncIterator[tuple[Any, ...]]:
    iterators = [each(one) for one in inputs]
    while True:
        try:
            yield tuple([await anext(one) for one in iterators])
        except StopAsyncIteration:
            return


async def each(items: _Input) -> AsyncIterator[Any]:
    """Any iterable as an async one."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def map_calls(
    function: RemoteFunction[Any, Any, Any], inputs: _Input, *, ordered: bool, in_flight: int
) -> AsyncIterator[Any]:
    """Yields what the calls give. A feeder reads the input and submits; this generator waits and hands out."""
    run = _Map(function, ordered, in_flight)
    feeder = asyncio.ensure_future(run.feed(inputs))
    try:
        while (item := await run.next()) is not _END:
            yield item
    finally:
        # Also when the consumer breaks out of its loop: nobody will want what is still under way.
        feeder.cancel()
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeder


class _Map:
    """The state of one `map` between its feeder and its consumer."""

    def __init__(self, function: RemoteFunction[Any, Any, Any], ordered: bool, in_flight: int) -> None:
        self._function = function
        self._ordered = ordered
        self._slots = asyncio.Semaphore(in_flight)
        self._under_way: set[Call | asyncio.Task[Any]] = set()
        self._error: BaseException | None = None
        self.arrived: asyncio.Queue[Any] = asyncio.Queue()

    async def feed(self, inputs: _Input) -> None:
        """Submits a call for each input. Ordered calls are handed over at once, the others when they have ended."""
        waiting = 0
        done = asyncio.Event()

        def ended(call: Call | asyncio.Task[Any]) -> None:
            nonlocal waiting
            waiting -= 1
            self.arrived.put_nowait(call)
            if not waiting:
                done.set()

        try:
            async for args in each(inputs):
                await self._slots.acquire()
                call = await _begin(self._function, args)
                self._under_way.add(call)
                if self._ordered:
                    self.arrived.put_nowait(call)
                else:
                    waiting += 1
                    done.clear()
                    future = call.future if isinstance(call, Call) else call
                    future.add_done_callback(lambda _, call=call: ended(call))  # type: ignore[misc]  # a default has no type
            if waiting:
                await done.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - of the input, or of the encoding: it is the consumer's
            self._error = error
            self.cancel()
        self.arrived.put_nowait(_END)

    async def next(self) -> Any:
        """The next result, or the end. After an error of the input: results that have come, and then the error."""
        call = await self.arrived.get()
        try:
            if call is not _END:
                return await self._finish(call)
        except asyncio.CancelledError:
            if self._error is None:
                raise
        if self._error is not None:
            raise self._error
        return _END

    async def _finish(self, call: Call | asyncio.Task[Any]) -> Any:
        """The result of a call that was handed over, and room for another."""
        try:
            return await (call.output() if isinstance(call, Call) else call)
        finally:
            self._under_way.discard(call)
            self._slots.release()

    def cancel(self) -> None:
        """Gives up what is under way."""
        for call in self._under_way:
            if isinstance(call, Call):
                if not call.future.done():
                    call.cancel("its map was left")
                    call.future.cancel()
            else:
                call.cancel()
        self._under_way.clear()


def map_blocking(
    function: RemoteFunction[Any, Any, Any],
    inputs: Iterable[Iterable[Any]],
    *,
    ordered: bool,
    in_flight: int,
) -> Iterator[Any]:
    """The same for callers that block: the input is read in their thread, the calls are made in the loop's."""
    under_way: deque[concurrent.futures.Future[Any]] = deque()
    arrived: queue.SimpleQueue[concurrent.futures.Future[Any]] = queue.SimpleQueue()
    count = 0

    def take() -> Any:
        nonlocal count
        future = under_way.popleft() if ordered else arrived.get()
        count -= 1
        return future.result()

    def ready() -> bool:
        return under_way[0].done() if ordered and under_way else not ordered and not arrived.empty()

    futures: set[concurrent.futures.Future[Any]] = set()
    try:
        for args in inputs:
            while count >= in_flight or (count and ready()):
                yield take()
            future = background.submit(_call(function, args))
            futures.add(future)
            future.add_done_callback(futures.discard)
            count += 1
            if ordered:
                under_way.append(future)
            else:
                future.add_done_callback(arrived.put)
        while count:
            yield take()
    finally:
        for future in list(futures):
            future.cancel()


async def _begin(function: RemoteFunction[Any, Any, Any], args: Any) -> Call | asyncio.Task[Any]:
    config = function.__remote_config__
    if config.local:
        return asyncio.ensure_future(function(*args))
    return await function.caller().begin(config.policy, tuple(args))


async def _call(function: RemoteFunction[Any, Any, Any], args: Any) -> Any:
    call = await _begin(function, args)
    return await (call.output() if isinstance(call, Call) else call)
