"""Blobs to and from programs that do not see the engine's files: piece by piece, in the reading thread.

The engine keeps no memory of an upload. What has come is in a file beside the blob's final name, and every answer
says how much that is: so whoever was interrupted, or connects to the next engine, asks and goes on from there. One
that nobody ends is removed with the other files of nobody (`retention.py`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from runpod_flash.engine.requests import refuse
from runpod_flash.engine.retention import Retention
from runpod_flash.engine.state import State
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError, StoreError
from runpod_flash.wire import blobs, kinds
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import DropBlobs, GetBlob, Ok, PutBlob

LONGEST_PIECE: Final = 4 << 20
"""Bytes of one answer to GET_BLOB."""


class Transfers:
    """Answers PUT_BLOB, GET_BLOB and DROP_BLOBS."""

    def __init__(self, state: State, retention: Retention) -> None:
        self._state = state
        self._retention = retention
        self._folder = state.settings.home / "blobs"
        self.handlers: dict[int, Callable[[Link, Frame, Any], None]] = {
            kinds.PUT_BLOB: self._put,
            kinds.GET_BLOB: self._get,
            kinds.DROP_BLOBS: self._drop,
        }

    def _put(self, link: Link, message: Frame, head: PutBlob) -> None:
        limit = self._state.settings.max_value
        if not blobs.is_id(head.blob) or not 0 < head.size <= limit:
            raise _BadBlob(f"a blob {head.blob[:40]!r} of {head.size} bytes cannot be", why=f"at most {limit} bytes")
        piece = message.parts[0] if message.parts else b""
        work = partial(take, self._folder, head, piece, sync=self._state.store.durability == "power")
        self._in_thread(
            link, message.sid, work, lambda have: Ok(data={"have": have}).encode(sid=message.sid, flags=kinds.END)
        )

    def _get(self, link: Link, message: Frame, head: GetBlob) -> None:
        if not blobs.is_id(head.blob) or head.offset < 0:
            raise _BadBlob(f"{head.blob[:40]!r} is no blob id", why="blobs are named by hexadecimal digits")
        work = partial(give, self._folder, head)
        self._in_thread(link, message.sid, work, lambda piece: Ok().encode((piece,), sid=message.sid, flags=kinds.END))

    def _drop(self, link: Link, message: Frame, head: DropBlobs) -> None:
        dropped = self._state.turn.write().drop_blobs(head.job, head.blobs)
        self._retention.remove_after_turn(dropped)
        self._state.turn.send(link, Ok().encode(sid=message.sid, flags=kinds.END))

    def _in_thread(self, link: Link, sid: int, work: Callable[[], Any], answer: Callable[[Any], bytes]) -> None:
        def then(result: Any, error: Exception | None) -> None:
            if error is None:
                self._state.turn.send(link, answer(result))
            elif isinstance(error, FlashError):
                refuse(self._state, link, sid, error)
            else:
                refuse(self._state, link, sid, StoreError("a blob could not be moved", why=str(error) or repr(error)))

        self._state.turn.in_thread(work, then)


def take(folder: Path, head: PutBlob, piece: bytes, *, sync: bool) -> int:
    """Adds a piece to what has come of a blob, if it is the next one; how much there is now.

    With `hashed`, what is whole is only taken if its contents are those that its name says.
    """
    target = blobs.path_of(folder, head.blob)
    if _size(target) == head.size:
        return head.size
    half = target.with_name(f"upload.{head.blob}")
    have = _size(half)
    if have >= head.size:  # of another size, or not ended because of a crash
        half.unlink()
        have = 0
    if not piece or head.offset != have:
        return have
    if have + len(piece) > head.size:
        raise _BadBlob(
            f"the blob {head.blob} has {head.size} bytes, and more have come", why="two programs send it differently"
        )
    try:
        blobs.append(half, piece)
        if have + len(piece) == head.size:
            _end(half, target, hashed=head.hashed, sync=sync)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(half, have)
        raise blobs.not_written(error, folder, head.size) from error
    return have + len(piece)


def give(folder: Path, head: GetBlob) -> bytes:
    """The bytes of a blob from an offset on, some of them; none at its end."""
    try:
        with open(blobs.path_of(folder, head.blob), "rb") as file:
            file.seek(head.offset)
            return file.read(LONGEST_PIECE)
    except FileNotFoundError:
        raise _NoBlob(
            f"there is no blob {head.blob}", why="nothing needs it any more, so it was removed", fix="send it again"
        ) from None


def _end(half: Path, target: Path, *, hashed: bool, sync: bool) -> None:
    if hashed and blake3(half.read_bytes()).hexdigest(length=len(target.name) // 2) != target.name:
        half.unlink()
        raise _BadBlob(
            f"what has come as the blob {target.name} is something else",
            why="its name is the digest of its contents, and they do not match: the file changed while it was sent",
            fix="send it again",
        )
    if sync:
        with open(half, "rb") as file:
            os.fsync(file.fileno())
    os.rename(half, target)
    if sync:
        blobs.sync_folder(target.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _BadBlob(FlashError):
    code = "bad_blob"


class _NoBlob(FlashError):
    code = "no_blob"
