"""What comes beside the frames: definitions, and blobs, also of an engine whose files this program does not see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from runpod_flash.client.link import Link
from runpod_flash.errors import EngineError, EngineRefused, StoreError
from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import blobs
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.messages import GetBlob, GetDef, Moved, PutBlob, decode

PIECE: Final = 1 << 20
AT_ONCE: Final = 4
"""Pieces that are sent before the first of them is answered: as much as either end has to keep in memory."""


async def upload(link: Link, blob: str, data: Buffer) -> None:
    """Brings a blob to the engine that is named by the hash of its contents; nothing is sent that is there already."""
    view = memoryview(data).cast("B")
    have = await _put(link, blob, view, 0, view[:0])
    while have < view.nbytes:
        before = have
        pieces = range(have, min(view.nbytes, have + AT_ONCE * PIECE), PIECE)
        answers = [_put(link, blob, view, offset, view[offset : offset + PIECE]) for offset in pieces]
        have = max(await asyncio.gather(*answers))
        await link.drained()
        if have <= before:
            raise EngineRefused(
                f"the engine does not take the blob {blob}",
                why=f"it has {have} of {view.nbytes} bytes, and takes no more",
                fix="flash engine status",
            )


async def download(link: Link, blob: str, size: int) -> memoryview:
    """The contents of a blob, writable."""
    data = bytearray()
    while len(data) < size:
        reply = await link.ask(GetBlob(blob=blob, offset=len(data)))
        piece = reply.parts[0] if reply.parts else b""
        if not piece:
            raise EngineRefused(
                f"the blob {blob} ends after {len(data)} of {size} bytes",
                why="its file was cut short on the engine's side",
                fix="call the function again",
            )
        data += piece
    return memoryview(data)


async def gather(link: Link, job: str, parts: Sequence[Buffer], moved: Sequence[Moved]) -> list[Buffer]:
    """Every part of an outcome, large ones from the files that they are in."""
    try:
        return blobs.gather(link.blob_folder(), parts, moved)
    except blobs.BlobError:  # it is gone, or we do not see the engine's files
        whole = list(parts)
    try:
        for index, blob, size in moved:
            whole[index] = await download(link, blob, size)
    except EngineError as error:
        raise StoreError(
            f"the result of job {job} cannot be read: {error.what}",
            why="large results are kept in files, and one of this result's was removed",
            fix="call again; results are kept for FLASH_RETENTION_AWAITED and FLASH_RETENTION_SPAWNED seconds",
        ) from error
    return whole


async def fetch(link: Link, digests: list[str]) -> None:
    """Definitions that are not here: another program's classes, if this one takes up a job that it did not submit."""
    for digest in TABLE.missing(digests):
        reply = await link.ask(GetDef(digest=digest))
        TABLE.add(digest, bytes(reply.parts[0]))


def remove(link: Link, names: Sequence[str]) -> None:
    """Files that nobody will name again; no record says so, and what is mapped stays until nobody looks at it."""
    for blob in names:
        blobs.retire(link.blob_folder(), blob).unlink(missing_ok=True)


async def _put(link: Link, blob: str, view: memoryview, offset: int, piece: memoryview) -> int:
    head = PutBlob(blob=blob, size=view.nbytes, offset=offset, hashed=True)
    reply = await link.ask(head, (piece,) if piece.nbytes else ())
    have: int = decode(reply).data["have"]
    return have
