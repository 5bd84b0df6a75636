"""One call on a queue: made ready, encoded, submitted, awaited, and turned into a JobOutput."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from functools import partial
from types import CoroutineType, FunctionType
from typing import Any

import msgspec

from runpod_flash.client import environment, items, job, nested, output, scope, shipment, transcript, transport
from runpod_flash.client.classes import RemoteClass
from runpod_flash.client.function import RemoteFunction, yields
from runpod_flash.client.link import Link
from runpod_flash.client.output import Ended
from runpod_flash.client.reply import Reply
from runpod_flash.client.session import Binding, NotDeployed, Stream
from runpod_flash.errors import ConfigError, EncodingError, UsageError, call_site
from runpod_flash.model.job import JobPolicy, new_job_id
from runpod_flash.model.output import JobOutput
from runpod_flash.model.resolve import resolve_endpoint, without_effect
from runpod_flash.payload import codec
from runpod_flash.wire import door
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import (
    Accepted,
    Declare,
    Declared,
    FunctionSpec,
    Lookup,
    Outcome,
    Position,
    Submit,
    decode,
)


class Prepared:
    """A function as it is now: its shipping, its pool, its endpoint. Replaced when any of them changes.

    Or, by its name alone, one that is deployed.
    """

    __slots__ = ("app", "declare", "scope", "variables")

    def __init__(
        self, declare: Declare | Lookup, scope: scope.Scope | None, variables: dict[str, str], app: tuple[str, str]
    ) -> None:
        self.declare = declare
        self.scope = scope  # None in a worker and where it is deployed: nothing of it changes
        self.variables = variables
        self.app = app

    @property
    def shipped(self) -> Declare:
        """How one is declared that is not deployed."""
        assert isinstance(self.declare, Declare)
        return self.declare


class Call(msgspec.Struct, eq=False):
    """A call that was sent and is awaited here: a job, by its id. `future` has the outcome when the job has ended."""

    id: str
    link: Link
    stream: Stream
    future: Reply

    async def output(self) -> Any:
        """What the call gives. Whoever gives up waiting gives up the call."""
        try:
            frame = await self.future
        except asyncio.CancelledError:
            self.cancel("its caller was cancelled")
            raise
        if output.on_ended is not None:
            output.on_ended(self._ended(frame))
        given = self._given(frame)
        return await given if type(given) is CoroutineType else given

    @property
    def function(self) -> str:
        """The name of what is called."""
        watch = self.stream.watcher
        return watch.label if isinstance(watch, output.Watch) else ""

    def _ended(self, frame: Frame) -> Ended:
        head: Outcome = decode(frame)
        error = head.error.message if head.error is not None else ""
        return Ended(self.function, head.worker, head.status, head.delay_ms, head.run_us / 1000, error, self.id)

    def _given(self, frame: Frame) -> Any:
        """What a call gives that ended so, or a coroutine where something more has to be asked for."""
        stream = self.stream
        if not stream.again and not stream.head.blobs and (found := job.at_once(frame)) is not None:
            return found
        return self._put_together(frame)

    async def _put_together(self, frame: Frame) -> JobOutput[Any]:
        if self.stream.again and isinstance(self.stream.watcher, output.Watch):
            await self.stream.watcher.complete(self.stream, decode(frame).attempts)
        result = await job.to_output(self.link, frame)
        if self.stream.head.blobs and result.error is None:
            self.link.files.completed(self.id, self.stream.head.blobs)
        return result

    def cancel(self, cause: str) -> None:
        """Tells the engine that nobody wants the job any more."""
        if not self.future.done() or self.future.cancelled():
            self.link.cancel(self.stream, self.id, cause)


class Caller:
    """Calls one function: everything about it that stays the same from call to call."""

    _OURS = False
    """Whether what its calls leave in files is on no record."""
    _prepared: Prepared | None

    def __init__(self, handle: RemoteFunction[..., Any, Any]) -> None:
        function: Callable[..., Any] = handle.__wrapped__
        config = handle.__remote_config__
        if not isinstance(function, FunctionType):
            raise UsageError(
                f"{function!r} cannot be called elsewhere",
                where=call_site(),
                why="what travels is a function written with def or async def",
                fix="write a function that calls it",
            )
        self._handle = handle
        self._function = function
        self._config = config
        self._wanted = config.variables()
        self._asks = None in self._wanted.values() and door.here() is None
        self._where = scope.location(function)
        self._instance = ""  # key of the instance whose method it is
        self._prepared = None

    async def call(self, policy: JobPolicy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `await fn(…)` gives."""
        link = transport.current()
        binding = self._bound(link) or await self._binding(link)
        return await self._submit(link, binding, policy, args, kwargs).output()

    async def begin(self, policy: JobPolicy, args: tuple[Any, ...]) -> Call:
        """Submits one of many jobs and returns at once; while the queue is full, it is sent again and again.

        After the first call this does not suspend, unless writing has to wait.
        """
        link = transport.current()
        binding = self._bound(link) or await self._binding(link)
        call = self._submit(link, binding, policy, args, {})
        call.stream.patient = True
        return call

    async def stream(self, policy: JobPolicy, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """What a call yields, and then the exception that ended it, if one did. Leaving the loop cancels the call."""
        link = transport.current()
        binding = self._bound(link) or await self._binding(link)
        inbox = items.Inbox()
        call = self._submit(link, binding, policy, args, kwargs, inbox)
        try:
            async with contextlib.aclosing(items.read(link, call.stream, inbox, call.id, ours=self._OURS)) as found:
                async for item in found:
                    yield item
        except BaseException:
            call.cancel("its stream was left")
            raise
        result = await call.output()
        if isinstance(result, JobOutput):
            result.unwrap()

    def _submit(
        self,
        link: Link,
        binding: Binding,
        policy: JobPolicy,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inbox: items.Inbox | None = None,
    ) -> Call:
        parts, defs, small = self._encode(link, args, kwargs)
        name = new_job_id()
        head = Submit(
            job=name,
            fn=binding.fn,
            policy=policy,
            logs=True,
            defs=defs,
            instance=self._instance,
            parent=door.caller(),
        )
        if inbox is not None:
            head.stream = inbox.position
        reply = Reply(loop=link.loop)
        stream = Stream(head, reply, parts, small, binding, binding.watcher, copy_context(), inbox)
        link.open(stream)
        return Call(name, link, stream, reply)

    async def spawn(
        self, policy: JobPolicy, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None
    ) -> job.JobHandle[Any]:
        """Submits a job that belongs to nobody, and waits until it is on record."""
        link = transport.current()
        binding = await self._binding(link)
        parts, defs, small = self._encode(link, args, kwargs)
        head = Submit(
            job=new_job_id(),
            fn=binding.fn,
            policy=policy,
            wait=False,
            idem=key,
            defs=defs,
            instance=self._instance,
            parent=door.caller(),
        )
        if yields(self._function):
            head.stream = Position()
        stream = Stream(head, Reply(loop=link.loop), parts, small, binding)
        link.open(stream)
        accepted: Accepted = decode(await link.reply(stream))
        return job.JobHandle(accepted.job, self._function.__name__)

    def _encode(self, link: Link, args: tuple[Any, ...], kwargs: dict[str, Any]) -> codec.Encoded:
        if (simple := codec.encode_simple(args, kwargs)) is not None:
            return simple
        try:
            encoded = codec.encode((args, kwargs), named=self._parameters)
        except EncodingError as error:
            error.where = error.where or call_site() or self._where
            raise
        parts, limit = encoded.parts, link.settings.max_value
        if not encoded.small and codec.size(parts) > limit:
            raise codec.too_large(codec.size(parts), limit, (args, kwargs), self._parameters())
        if (encoded.defs or nested.any_met()) and (handles := nested.met_in(encoded.defs)):
            return encoded._replace(defs=nested.merged(encoded.defs, self._table(link, handles)))
        return encoded

    # ── being known to the engine ─────────────────────────────────────────────────────────────────

    async def declare(self) -> None:
        """Tells the engine of the function without calling it: its routes answer, and its least workers start."""
        await self._binding(transport.current())

    def _bound(self, link: Link) -> Binding | None:
        """The binding, if there is nothing to wait for: the engine knows the function as it is now, and reads."""
        prepared = self._prepared
        binding: Binding | None = link.bindings.get(prepared)
        if binding is None or not binding.fn or link.is_congested():
            return None
        return None if binding.may_change and self._outdated(prepared, link) else binding

    async def _binding(self, link: Link) -> Binding:
        prepared = self._prepared
        if prepared is None or self._outdated(prepared, link):
            prepared = self._prepared = await self._deployed(link) or self.prepare(link)
        binding: Binding | None = link.bindings.get(prepared)
        if binding is None:
            watch = output.Watch(self._function.__name__, partial(transcript.past_lines, link))
            # That it is of another app than the link has been looked at: neither changes.
            may_change = self._asks or (prepared.scope is not None and bool(prepared.scope.captures))
            binding = link.bindings[prepared] = Binding(prepared.declare, watch, may_change=may_change)
        if not binding.fn:
            try:
                await link.bind(binding)
            except BaseException as error:
                link.bindings.pop(prepared, None)
                if isinstance(error, NotDeployed):
                    self._prepared = None  # any more: the next call ships it
                if isinstance(error, ConfigError) and error.where is None:
                    error.where = self._where  # what the engine found wrong is written there
                raise
        if link.is_congested():
            await link.drained()
        return binding

    def _outdated(self, prepared: Prepared | None, link: Link) -> bool:
        if prepared is None or (reached := prepared.scope) is None:
            return False
        if (reached.captures and reached.changed()) or (prepared.app is not link.app and prepared.app != link.app):
            return True
        return self._asks and self._variables() != prepared.variables

    def _variables(self) -> dict[str, str]:
        return environment.resolve_variables(self._wanted, self._where)

    async def _deployed(self, link: Link) -> Prepared | None:
        """What is called by its name, and nothing shipped; None unless it is deployed where this program calls.

        That is where the program has named its app, and in a worker, whose own app it is, for what it was not told how
        to call.
        """
        inside = door.here() is not None
        if nested.was_told(self._handle) if inside else not link.names_app:
            return None
        app, env = ("", "") if inside else link.app
        name = FunctionSpec(name=self._name(), version="", digest="", where=self._where)
        head = Lookup(endpoint=self._config.resource.name, function=name, app=app, env=env)
        try:
            declared: Declared = await link.request(head)
        except NotDeployed:
            return None
        name.digest = declared.digest
        return Prepared(head, None, {}, link.app)

    def prepare(self, link: Link) -> Prepared:
        """The function as it is now, with all that its workers need of this program."""
        if door.here() is not None:
            return Prepared(nested.declaration(self._handle), None, {}, link.app)
        prepared, handles = self.judged(link)
        if handles:
            function = prepared.shipped.function
            function.defs = nested.merged(function.defs, self._table(link, handles))
        return prepared

    def _table(self, link: Link, handles: nested.Handles) -> list[str]:
        """The definitions with which these functions can be called from where they arrive."""
        if door.here() is not None:
            return nested.tables_with(handles)
        return nested.table_of(handles, lambda handle: _judged(handle, link))

    def judged(self, link: Link) -> tuple[Prepared, nested.Handles]:
        """The function alone, and the remote functions that it refers to.

        Everything that can be refused here is refused here, before anything is sent.
        """
        nested.forget_met()
        config, function = self._config, self._function
        variables = self._variables()
        environment.check_system_packages(config.system, self._where)
        app, env = link.app
        ready = shipment.prepare(self._travelling(), config.requirements, strict=link.settings.scope == "strict")
        pool = environment.pool_spec(
            config.resource,
            ready.requirements,
            config.system,
            variables,
            is_async=self._is_async(),
            accelerate=config.accelerate_downloads,
            mirror=link.settings.mirror,
        )
        if ready.notice:
            output.notice_once(ready.notice)
        if idle := without_effect(config.resource):
            fields = f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'}"
            output.notice_once(f"endpoint {config.resource.name!r}: {fields} no effect on this machine")
        spec = FunctionSpec(
            name=self._name(),
            version=ready.version,
            digest=ready.packed.digest,
            defs=ready.packed.defs,
            where=self._where,
            is_async=inspect.iscoroutinefunction(function) or yields(function),
            **self._served(),
        )
        declare = Declare(
            endpoint=resolve_endpoint(config.resource, app, env),
            pool=pool,
            function=spec,
            exact=link.settings.hardware == "exact",
        )
        handles = nested.met_in(ready.packed.defs) | nested.of_modules(ready.modules)
        return Prepared(declare, ready.scope, variables, link.app), handles

    # What is otherwise where a function is load-balanced, or a method of a remote class.

    def _travelling(self) -> scope.Root:
        """What is packed. An argument of a class that is only named in text needs that class's packages as well."""
        if not any(isinstance(one, str) for one in self._function.__annotations__.values()):
            return self._function
        from runpod_flash.client import hints  # noqa: PLC0415 - what reads requests: only text needs it here

        return hints.spelled_out(self._function)

    def _name(self) -> str:
        return scope.function_name(self._function)

    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self._function) or inspect.isasyncgenfunction(self._function)

    def _served(self) -> dict[str, Any]:
        """What the engine is told of how it answers over HTTP."""
        policy = self._config.policy
        return {
            "takes_json": True,
            "timeout_ms": policy.timeout_ms,
            "max_retries": policy.max_retries,
            "yields": yields(self._function),
        }

    def _parameters(self) -> tuple[str, ...]:
        code = self._function.__code__
        return code.co_varnames[: code.co_argcount]


def _judged(handle: nested.Handle, link: Link) -> tuple[Prepared, nested.Handles]:
    if not isinstance(handle, RemoteClass):
        return handle.caller().judged(link)
    from runpod_flash.client import methods  # noqa: PLC0415 - it uses this module

    return methods.judged(handle, link)
