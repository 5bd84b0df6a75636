"""What becomes of a request that the engine has refused: mended and sent again, where that can be, or failed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from runpod_flash.client.session import Binding, Stream, error_of
from runpod_flash.errors import QueueFull
from runpod_flash.wire import messages

if TYPE_CHECKING:
    from runpod_flash.client.link import Link

_FORGOTTEN: Final = {"unknown_function", "no_definition"}
"""Errors of an engine that has lost sight of something that was declared; declaring it again mends them."""
_NO_BLOB: Final = "no_blob"
_LEAVING: Final = "leaving"
_WITH_ARGUMENTS: Final = {messages.Submit, messages.Call}
_MAX_TRIES: Final = 5
_FULL_MS: Final = 1000


class Mending:
    """Takes the errors that requests of a link are answered with."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._under_way: set[asyncio.Task[None]] = set()

    def take(self, stream: Stream, error: messages.Error) -> None:
        """A request was answered with an error."""
        binding = stream.binding
        stream.tries += 1
        if error.code in _FORGOTTEN and binding is not None and stream.tries < _MAX_TRIES:
            binding.fn = 0
            self._link.known.clear()
            self._do(self._bind_and_send(binding, stream))
        elif error.code == _NO_BLOB and type(stream.head) in _WITH_ARGUMENTS and stream.tries < _MAX_TRIES:
            self._bring_files(stream)
        elif error.code == _LEAVING:
            self._link.wait_for_next(stream)  # it was not begun
        elif error.code == QueueFull.code and stream.patient:
            stream.tries = 0
            self._link.loop.call_later((error.retry_after_ms or _FULL_MS) / 1000, self._open_if_wanted, stream)
        else:
            if isinstance(stream.head, messages.PutDef):
                self._link.known.discard(stream.head.digest)
            stream.fail(error_of(error))

    def _bring_files(self, stream: Stream) -> None:
        """The engine lacks files that a call names: removed since we looked, or it does not see what we write."""
        files = self._link.files
        stream.blob_home = ""
        if stream.tries == 1 and files.shared:
            self._link.open(stream)
        else:
            files.shared = False
            self._do(self._upload_and_send(stream))

    async def _upload_and_send(self, stream: Stream) -> None:
        try:
            await self._link.files.upload(stream)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting caller's
            stream.fail(error)
        else:
            self._link.open(stream)

    async def _bind_and_send(self, binding: Binding, stream: Stream) -> None:
        try:
            await self._link.bind(binding)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting caller's
            stream.fail(error)
        else:
            self._link.open(stream)

    def _open_if_wanted(self, stream: Stream) -> None:
        if stream.future is not None and not stream.future.done() and not self._link.closing:
            self._link.open(stream)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._link.loop.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
