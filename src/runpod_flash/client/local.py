"""A remote function called in this process: the caller's packages, nothing shipped, no retries.

What it gives is what the engine would give, so that one test passes both ways.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from types import TracebackType
from typing import Any

from runpod_flash import settings
from runpod_flash.client.environment import resolve_variables
from runpod_flash.errors import JobTimeout
from runpod_flash.model.job import ErrorKind, JobPolicy, JobStatus, new_job_id
from runpod_flash.model.output import JobOutput
from runpod_flash.model.resources import Resource

WORKER = "local"


async def call(
    function: Callable[..., Any],
    resource: Resource,
    variables: Mapping[str, str | None],
    policy: JobPolicy,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    owner: Callable[[], object] | None = None,
) -> Any:
    """The result of `function`: a JobOutput on a queue, the bare value (or its exception) otherwise.

    For a method, `owner` gives the object that has it.
    """
    found = resolve_variables(variables, _where(function))
    began, clock = time.time_ns() // 1_000_000, time.perf_counter()
    facts: dict[str, Any] = {}
    try:
        with _variables(found):
            facts["output"] = await _run(_bound(function, owner), policy, args, kwargs)
    except (Exception, SystemExit) as error:  # a worker would survive both of them
        if not resource.is_queue or settings.load().local_raises:
            raise
        facts |= failure(error)
    if not resource.is_queue:
        return facts["output"]
    return JobOutput(
        id=new_job_id(),
        started_at_ms=began,
        ended_at_ms=time.time_ns() // 1_000_000,
        worker_id=WORKER,
        execution_time=round((time.perf_counter() - clock) * 1000),
        **facts,
    )


async def stream(
    function: Callable[..., Any],
    variables: Mapping[str, str | None],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    owner: Callable[[], object] | None = None,
) -> AsyncIterator[Any]:
    """What a generator yields in this process."""
    with _variables(resolve_variables(variables, _where(function))):
        generator = _bound(function, owner)(*args, **kwargs)
        if inspect.isasyncgen(generator):
            async with aclosing(generator):
                async for item in generator:
                    yield item
        else:
            with closing(generator):
                for item in generator:
                    yield item


def _bound(function: Callable[..., Any], owner: Callable[[], object] | None) -> Callable[..., Any]:
    return function if owner is None else getattr(owner(), function.__name__)


def _where(function: Callable[..., Any]) -> str:
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


async def _run(function: Callable[..., Any], policy: JobPolicy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Its result. Only async code can be interrupted from inside its own process, so only that has a timeout."""
    if inspect.isasyncgenfunction(function):
        return [item async for item in function(*args, **kwargs)]
    if inspect.isgeneratorfunction(function):
        return list(function(*args, **kwargs))
    result = function(*args, **kwargs)
    if not inspect.isawaitable(result):
        return result
    task = asyncio.ensure_future(result)
    seconds = policy.timeout_ms / 1000
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    if done:
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    raise JobTimeout(
        f"{function.__name__} took longer than its timeout of {seconds:g} s",
        fix="give it more time: @remote(…, timeout=…) is in seconds",
    )


def failure(error: BaseException) -> dict[str, Any]:
    """What a JobOutput says of an exception that user code raised in this process."""
    name = type(error).__qualname__
    timed_out = isinstance(error, JobTimeout)
    message = error.what if isinstance(error, JobTimeout) else str(error)
    return {
        "status": JobStatus.TIMED_OUT if timed_out else JobStatus.FAILED,
        "error": f"{name}: {message}" if message else name,
        "error_kind": ErrorKind.TIMEOUT if timed_out else ErrorKind.USER,
        "exception": error,
        "traceback": "".join(traceback.format_exception(type(error), error, _from_users_code(error.__traceback__))),
    }


def _from_users_code(trace: TracebackType | None) -> TracebackType | None:
    """Without our own frames, which are the outermost; with them if there is nothing else."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename == __file__:
        inner = inner.tb_next
    return inner or trace


# ── variables around a call ───────────────────────────────────────────────────────────────────────

_lock = threading.Lock()
_layers: dict[str, tuple[int, str | None]] = {}
"""Variable → how many calls that are running have set it, and what it was before the first."""


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Sets variables while calls run. Calls may overlap and end in any order; the last one restores."""
    with _lock:
        for name, value in wanted.items():
            count, before = _layers.get(name, (0, os.environ.get(name)))
            _layers[name] = count + 1, before
            os.environ[name] = value
    try:
        yield
    finally:
        with _lock:
            for name in wanted:
                count, before = _layers.pop(name)
                if count > 1:
                    _layers[name] = count - 1, before
                elif before is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = before
