"""Blob files: parts too large for a frame, written before the frame that names them.

A blob is `<dir>/<first two digits>/<id>`, made as a temporary file and renamed, so a name that exists is
complete. The id is random, or the beginning of a hash of the contents. Reading maps the file: no copy goes
through the engine. Standard library only.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Callable, Sequence
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


def write(folder: Path, data: Buffer, *, blob: str = "", sync: bool = False) -> str:
    """Writes one blob and returns its id, a random one unless it is given; with `sync` it also survives a power cut."""
    name = os.urandom(16).hex()
    blob = blob or name
    target = path_of(folder, blob)
    temporary = target.with_name(f"tmp.{os.getpid()}.{name}")
    view = memoryview(data).cast("B")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "xb", buffering=0, opener=_private) as file:
            left = view
            while left:
                left = left[file.write(left) :]
            if sync:
                os.fdatasync(file.fileno())
        os.rename(temporary, target)
        if sync:
            sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise not_written(error, folder, view.nbytes) from error
    return blob


def read(folder: Path, blob: str, size: int | None = None) -> memoryview:
    """The blob's bytes as a private, writable mapping (changes are seen by nobody else).

    With `size` a file of another size is an error: somebody has damaged it.
    """
    path = path_of(folder, blob)
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if size is not None and found != size:
                raise BlobError(f"the file of a large value is damaged: {path} has {found} bytes instead of {size}")
            return memoryview(mmap.mmap(file.fileno(), found, access=mmap.ACCESS_COPY) if found else bytearray())
    except FileNotFoundError as error:
        raise BlobError(f"the file of a large value is gone: {path}") from error


def missing(folder: Path, moved: Sequence[tuple[int, str, int]]) -> list[str]:
    """The ids of those that are not there, or not whole."""
    return [blob for _index, blob, size in moved if _size(path_of(folder, blob)) != size]


def append(path: Path, piece: Buffer) -> None:
    """Adds to a file that is not a blob yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "ab", buffering=0, opener=_private) as file:
        left = memoryview(piece)
        while left:
            left = left[file.write(left) :]


def retire(folder: Path, blob: str) -> Path:
    """Takes away the blob's name if it is there: nobody finds it any more, and the file can be deleted at leisure."""
    path = path_of(folder, blob)
    gone = path.with_name(f"gone.{blob}")
    try:
        os.rename(path, gone)
    except FileNotFoundError:
        pass
    return gone


def spill(parts: Sequence[Buffer], place: Callable[[Buffer], str]) -> tuple[list[Buffer], list[tuple[int, str, int]]]:
    """Moves large parts into files: the inline parts, and (index, blob id, size) of those moved.

    `place` puts a part into a file and returns the id of that. A moved part leaves an empty one in its place.
    Parts stay inline up to 256 KiB each and 1 MiB together.
    """
    inline: list[Buffer] = []
    moved: list[tuple[int, str, int]] = []
    total = 0
    for index, part in enumerate(parts):
        size = memoryview(part).nbytes
        if size > INLINE_LIMIT or total + size > _INLINE_TOTAL:
            moved.append((index, place(part), size))
            inline.append(b"")
        else:
            total += size
            inline.append(part)
    return inline, moved


def gather(folder: Path, parts: Sequence[Buffer], moved: Sequence[Sequence[int | str]]) -> list[Buffer]:
    """Undoes `spill`: every part, those in files mapped."""
    whole: list[Buffer] = list(parts)
    for index, blob, size in moved:
        whole[int(index)] = read(folder, str(blob), int(size))
    return whole


def sync_folder(folder: Path) -> None:
    """Has the disk remember which names the folder holds: those of new files survive a power cut as well."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def megabytes(size: int) -> str:
    """A size in words."""
    return f"{size / (1 << 20):,.1f} MiB" if size >= 1 << 20 else f"{size:,} bytes"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def not_written(error: OSError, folder: Path, size: int) -> BlobError:
    """What to say when a value could not be written."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return BlobError(f"a value of {megabytes(size)} cannot be written to {folder}: {error.strerror or error}")
    try:
        room = os.statvfs(folder)
        free = f"{megabytes(room.f_bavail * room.f_frsize)} are free"
    except OSError:
        free = "the disk is full"
    return BlobError(f"a value of {megabytes(size)} does not fit into {folder}: {free}")
