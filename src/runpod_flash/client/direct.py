"""One call of a load-balanced function: sent, awaited, and turned into the bare value, or raised as what it raised."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from runpod_flash.client import environment, items, operation, transfer
from runpod_flash.client.calls import Call, Caller
from runpod_flash.client.link import Link
from runpod_flash.client.output import Ended
from runpod_flash.client.reply import Reply
from runpod_flash.client.session import Binding, Stream
from runpod_flash.errors import FlashError, JobCancelled, JobTimeout, RemoteError, WorkerLost
from runpod_flash.model.job import ErrorKind, JobPolicy, JobStatus, new_call_id
from runpod_flash.payload import codec, failures
from runpod_flash.wire import door, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import ErrorInfo, Returned, Route

_PLAIN_ERRORS: dict[str, type[FlashError]] = {
    ErrorKind.TIMEOUT: JobTimeout,
    ErrorKind.LOST: WorkerLost,
    ErrorKind.CANCELLED: JobCancelled,
}


class DirectCall(Call):
    """A load-balanced call that was sent and is awaited here."""

    def _ended(self, frame: Frame) -> Ended:
        head: Returned = messages.decode(frame)
        status = JobStatus.COMPLETED if head.ok else JobStatus.FAILED
        error = head.error.message if head.error is not None else ""
        return Ended(self.function, "", status, 0, head.run_us / 1000, error)

    def _given(self, frame: Frame) -> Any:
        head: Returned = messages.decode(frame)
        if head.ok and not (head.blobs or head.defs or self.stream.head.blobs):
            return codec.decode(frame.parts) if head.values else None
        return self._put_together(frame)

    async def _put_together(self, frame: Frame) -> Any:
        if self.stream.head.blobs:
            transfer.remove(self.link, self.link.files.completed(self.id, self.stream.head.blobs))
        return await _value(self.link, self.id, frame)


class DirectCaller(Caller):
    """Calls one load-balanced function."""

    _OURS = True

    def _submit(
        self,
        link: Link,
        binding: Binding,
        policy: JobPolicy,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inbox: items.Inbox | None = None,
    ) -> DirectCall:
        parts, defs, small = self._encode(link, args, kwargs)
        name = new_call_id()
        head = messages.Call(
            call=name,
            fn=binding.fn,
            timeout_ms=policy.timeout_ms,
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
        return DirectCall(name, link, stream, reply)

    def _served(self) -> dict[str, Any]:
        config, function = self._config, self._function
        route = Route(config.method or "POST", config.path or f"/{function.__name__}")
        schema = operation.describe(function, route.method, route.path)
        return {"timeout_ms": config.policy.timeout_ms, "routes": [route], "schema": schema}


async def _value(link: Link, call: str, frame: Frame) -> Any:
    head: Returned = messages.decode(frame)
    parts: Any = frame.parts
    if head.blobs:
        parts = await transfer.gather(link, call, parts, head.blobs)
        transfer.remove(link, [blob for _index, blob, _size in head.blobs])
    if head.defs:
        await transfer.fetch(link, head.defs)
    if head.ok:
        return codec.decode(parts[: head.values]) if head.values else None
    raise _error(head.error or ErrorInfo(type="RemoteError", message="its worker gave no reason"), parts)


def _error(error: ErrorInfo, parts: Any) -> BaseException:
    """What the caller sees raised: the original, where there was one and it can be made here."""
    if error.kind == ErrorKind.ENV:
        return environment.failure(error)
    kind = _PLAIN_ERRORS.get(error.kind)
    if kind is None or parts:
        return failures.restore(error, parts)
    if issubclass(kind, RemoteError):
        return kind(error.message, traceback=error.traceback or None)
    return kind(error.message)
