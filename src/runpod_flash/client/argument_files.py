"""The files that large arguments of a link's calls are put into, for as long as they are of use to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runpod_flash.client import sent
from runpod_flash.client.session import Stream
from runpod_flash.errors import StoreError
from runpod_flash.wire import blobs, messages
from runpod_flash.wire.frame import Buffer

if TYPE_CHECKING:
    from runpod_flash.client.link import Link

_LET_GO_SECONDS: Final = 1.0


class ArgumentFiles:
    """Puts large arguments where the engine reads them, and tells it which are of no more use."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._holding = False
        self.shared = True
        """Whether the engine sees what we write; until it is known that it does not."""

    def spill(self, stream: Stream, head: messages.Submit | messages.Call) -> bool:
        """Moves large arguments to files, unless they are in some; False if they cannot be, and who waits is told."""
        welcome = self._link.welcome
        assert welcome is not None
        if stream.blob_home == welcome.engine:
            return True
        try:
            stream.inline, head.blobs = blobs.spill(stream.parts, self._place)
        except OSError as error:
            stream.fail(
                StoreError(
                    str(error),
                    where=stream.binding.declare.function.where if stream.binding else None,
                    why="large arguments are put into files before a call is sent; nothing was sent",
                    fix="free some space there, pass a path or an address instead, or set FLASH_HOME to another disk",
                )
            )
            return False
        stream.blob_home = welcome.engine
        return True

    async def upload(self, stream: Stream) -> None:
        """Sends what lies in files to an engine that does not see them."""
        from runpod_flash.client import transfer  # noqa: PLC0415 - only where files are not shared

        welcome = await self._link.ready()
        stream.inline, stream.head.blobs = blobs.spill(stream.parts, sent.name_of)
        for index, blob, _size in stream.head.blobs:
            await transfer.upload(self._link, blob, stream.parts[index])
        stream.blob_home = welcome.engine

    def completed(self, job: str, files: Sequence[messages.Moved]) -> list[str]:
        """Tells the engine which files are of no more use, now that a call that named some has completed.

        Returns those that only this call can have named.
        """
        if not self.shared:
            return []
        useless = sent.TABLE.completed(self.folder(), job, files)
        self._drop(useless)
        return [blob for _, blob, size in files if size > sent.HASHED and (job, blob) in useless]

    def folder(self) -> Path:
        """Where they lie."""
        return self._link.blob_folder()

    def _place(self, data: Buffer) -> str:
        if not self.shared:
            return sent.name_of(data)  # a name: if it means nothing to the engine, the contents follow
        assert self._link.welcome is not None
        blob = sent.TABLE.place(self.folder(), data, sync=self._link.welcome.durability == "power")
        if type(data) is bytes and len(data) > sent.HASHED and not self._holding:
            self._holding = True
            self._let_go()
        return blob

    def _let_go(self) -> None:
        """Looks now and then whether bytes that were sent are still of use to anybody."""
        self._holding, useless = sent.TABLE.let_go()
        self._drop(useless)
        if self._holding:
            self._link.loop.call_later(_LET_GO_SECONDS, self._let_go)

    def _drop(self, useless: Sequence[tuple[str, str]]) -> None:
        if self._link.up:  # else they go with their jobs
            for job, blob in useless:
                self._link.open(Stream(messages.DropBlobs(job=job, blobs=[blob]), None))
