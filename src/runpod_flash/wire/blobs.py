"""Blob files: parts too large for a frame, written before the frame that names them.

A blob is `<dir>/<first two digits>/<random id>`, made as a temporary file and renamed, so a name that
exists is complete. Reading maps the file: no copy goes through the engine. Standard library only.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path

from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.kinds import INLINE_LIMIT

_ID = re.compile(r"[0-9a-f]{32}")
_INLINE_TOTAL = 4 * INLINE_LIMIT


class BlobError(OSError):
    """A blob cannot be written or is not there."""


def is_id(blob: str) -> bool:
    """Whether that can be the id of a blob, and so no path to somewhere else."""
    return _ID.fullmatch(blob) is not None


def path_of(folder: Path, blob: str) -> Path:
    """Where the blob lies; raises BlobError for anything that is not a blob id."""
    if not is_id(blob):
        raise BlobError(f"{blob!r} is no blob id")
    return folder / blob[:2] / blob


def write(folder: Path, data: Buffer, *, sync: bool = False) -> str:
    """Writes one blob and returns its id; with `sync` it also survives a power cut."""
    blob = os.urandom(16).hex()
    target = path_of(folder, blob)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f"tmp.{os.getpid()}.{blob}")
    try:
        with open(temporary, "xb", buffering=0, opener=_private) as file:
            view = memoryview(data).cast("B")
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fdatasync(file.fileno())
        os.rename(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(target.parent)
    return blob


def read(folder: Path, blob: str) -> memoryview:
    """The blob's bytes as a private, writable mapping (changes are seen by nobody else)."""
    path = path_of(folder, blob)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) if size else bytearray())
    except FileNotFoundError as error:
        raise BlobError(f"the blob {blob} is gone from {folder}") from error


def remove(folder: Path, blob: str) -> None:
    """Deletes the blob if it is there."""
    path_of(folder, blob).unlink(missing_ok=True)


def spill(
    folder: Path, parts: Sequence[Buffer], *, sync: bool = False
) -> tuple[list[Buffer], list[tuple[int, str, int]]]:
    """Moves large parts into files: the inline parts, and (index, blob id, size) of those moved.

    A moved part leaves an empty one in its place. Parts stay inline up to 256 KiB each and 1 MiB
    together.
    """
    inline: list[Buffer] = []
    moved: list[tuple[int, str, int]] = []
    total = 0
    for index, part in enumerate(parts):
        size = memoryview(part).nbytes
        if size > INLINE_LIMIT or total + size > _INLINE_TOTAL:
            moved.append((index, write(folder, part, sync=sync), size))
            inline.append(b"")
        else:
            total += size
            inline.append(part)
    return inline, moved


def gather(folder: Path, parts: Sequence[Buffer], moved: Sequence[Sequence[int | str]]) -> list[Buffer]:
    """Undoes `spill`: every part, those in files mapped."""
    whole: list[Buffer] = list(parts)
    for index, blob, _size in moved:
        whole[int(index)] = read(folder, str(blob))
    return whole


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
