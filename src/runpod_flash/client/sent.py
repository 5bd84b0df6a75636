"""Large values that the engine has already: what was written once is only named the next time.

Up to 16 MiB a value is known by its hash, whoever wrote it. Above that a hash would cost as much as writing does, so
a value is known by being the same object, if it is one that cannot change: bytes, or a read-only array. Either way a
name is only used while its file is as it was when it was written or verified; the engine looks again when it takes
the call, and refuses it if a file is gone (see `Link`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.wire import blobs
from runpod_flash.wire.frame import Buffer

HASHED: Final = 16 << 20
"""Bytes of a value up to which it is known by its hash."""
_MOST_FILES: Final = 4096
_MOST_BYTES: Final = 1 << 30
_MOST_OBJECTS: Final = 256
_MOST_HELD: Final = 1 << 30
_SAMPLES: Final = 16
_SAMPLE: Final = 4096

_RENEWED_S: Final = 1800.0
"""Age of a file from which naming it makes it young again: files of an hour that no job on record needs are removed."""

State = tuple[int, int, int]
"""Size, inode and time of change of a file: whatever anybody does to it, one of them is another then."""


class _Same(NamedTuple):
    """An object whose contents are in a file."""

    owner: Callable[[], Any]
    held: Buffer | None  # bytes, which know no weak references: kept until nobody else has them
    samples: bytes
    path: Path
    state: State


class Sent:
    """The files of this process's values. Used by every link, in whichever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[Path, State] = OrderedDict()
        self._last: dict[Path, str] = {}  # the job that completed last of those that named a file
        self._useless: list[tuple[str, str]] = []  # to be told with the next that are
        self._same: OrderedDict[tuple[int, int, Path], _Same] = OrderedDict()

    def place(self, folder: Path, data: Buffer, *, sync: bool) -> str:
        """The id of a file with these contents, which is written unless there is one. BlobError if it cannot be."""
        with self._lock:
            if memoryview(data).nbytes <= HASHED:
                return self._by_contents(folder, data, sync)
            return self._by_identity(folder, data, sync)

    def completed(self, folder: Path, job: str, files: Sequence[tuple[int, str, int]]) -> list[tuple[str, str]]:
        """Jobs, this one or earlier, and a file of each that will not be named again: pages and disk are not endless.

        That is what is known neither by its hash nor as an object, and the oldest of what is.
        """
        with self._lock:
            useless, self._useless = self._useless, []
            for _index, blob, _size in files:
                path = blobs.path_of(folder, blob)
                if path in self._files or any(same.path == path for same in self._same.values()):
                    self._last[path] = job
                else:
                    useless.append((job, blob))
            excess = sum(state[0] for state in self._files.values()) - _MOST_BYTES
            while excess > 0 or len(self._files) > _MOST_FILES:
                path, state = self._files.popitem(last=False)
                excess -= state[0]
                if path in self._last:
                    useless.append((self._last.pop(path), path.name))
        return useless

    def let_go(self) -> tuple[bool, list[tuple[str, str]]]:
        """Forgets bytes that nobody else has any more; whether there are others yet, and useless files as above."""
        with self._lock:
            self._let_go()
            useless, self._useless = self._useless, []
            return any(one.held is not None for one in self._same.values()), useless

    def _by_contents(self, folder: Path, data: Buffer, sync: bool) -> str:
        try:
            blob = name_of(data)
        except ImportError:  # a worker's environment has no hash: its values are written anew
            return blobs.write(folder, data, sync=sync)
        path = blobs.path_of(folder, blob)
        state = _state(path)
        if state is None or (state != self._files.get(path) and not _holds(path, blob, sync)):
            blobs.write(folder, data, blob=blob, sync=sync)
            state = _state(path)
        if (state := _renewed(path, state)) is not None:
            self._files[path] = state
            self._files.move_to_end(path)
        return blob

    def _by_identity(self, folder: Path, data: Buffer, sync: bool) -> str:
        self._let_go()
        found = _unchanging(data)
        if found is None:
            return blobs.write(folder, data, sync=sync)
        address, owner = found
        key = address, memoryview(data).nbytes, folder
        samples = _samples(data)
        same = self._same.get(key)
        if same is None or same.owner() is None or (samples, _state(same.path)) != (same.samples, same.state):
            path = blobs.path_of(folder, blobs.write(folder, data, sync=sync))
            held = data if type(data) is bytes else None
            same = self._same[key] = _Same(owner, held, samples, path, _state(path) or (0, 0, 0))
        state = _renewed(same.path, same.state)
        self._same[key] = same._replace(state=state or same.state)
        self._same.move_to_end(key)
        return same.path.name

    def _let_go(self) -> None:
        held = 0
        for key, same in reversed(list(self._same.items())):
            size = len(same.held) if same.held is not None else 0
            # Two: the field of the tuple, and the argument of getrefcount.
            unused = same.owner() is None or (same.held is not None and sys.getrefcount(same.held) <= 2)
            if unused or held + size > _MOST_HELD:
                del self._same[key]
                if job := self._last.pop(same.path, ""):
                    self._useless.append((job, same.path.name))
            else:
                held += size
        while len(self._same) > _MOST_OBJECTS:
            self._same.popitem(last=False)

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock. What is known stays true."""
        self._lock = threading.Lock()


def name_of(data: Buffer) -> str:
    """The id of a blob with these contents."""
    from blake3 import blake3  # noqa: PLC0415 - only a program with large arguments pays for it

    return blake3(memoryview(data).cast("B")).hexdigest(length=16)


def _holds(path: Path, blob: str, sync: bool) -> bool:
    """Whether a file that somebody else wrote, or changed, has the contents that its name says."""
    try:
        with open(path, "rb") as file:
            if sync:
                os.fsync(file.fileno())
            return name_of(file.read()) == blob
    except OSError:
        return False


def _unchanging(data: Buffer) -> tuple[int, Callable[[], Any]] | None:
    """An address that means these contents for as long as an object lives, and how to see that it lives."""
    if type(data) is bytes:
        return id(data), lambda: True
    if type(data) is not memoryview or not data.readonly:
        return None
    array: Any = data.obj
    interface = getattr(array, "__array_interface__", None)
    if type(array).__module__ != "numpy" or interface is None:
        return None
    # A view can be read-only while what it looks at is not.
    while (base := array.base) is not None and type(base) is not bytes:
        if type(base).__module__ != "numpy" or base.flags.writeable:
            return None
        array = base
    return (interface["data"][0], weakref.ref(array)) if not array.flags.writeable else None


def _samples(data: Buffer) -> bytes:
    """A few pages of it: an array may have been made writable, changed, and made read-only again."""
    view = memoryview(data).cast("B")
    last = view.nbytes - _SAMPLE
    return b"".join(view[at : at + _SAMPLE] for at in (last * n // _SAMPLES for n in range(_SAMPLES + 1)))


def _state(path: Path) -> State | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_ino, found.st_ctime_ns


def _renewed(path: Path, state: State | None) -> State | None:
    """The state of a file that is named once more."""
    with contextlib.suppress(OSError):
        if state is not None and time.time() - path.stat().st_mtime > _RENEWED_S:
            os.utime(path)
            return _state(path)
    return state


TABLE: Final = Sent()
"""What this process has sent."""

os.register_at_fork(after_in_child=TABLE.after_fork)
