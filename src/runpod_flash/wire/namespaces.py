"""A view of the files for one process alone: volumes appear in it, and nothing of the machine is changed.

The process leaves its mount namespace for one of its own (as an ordinary user: with a user namespace, in which it
keeps its ids), and binds each volume to its place. A place that does not exist is made in a copy of the nearest folder
that does: a file system in memory with the entries of that folder bound into it. For a place at the top that folder is
`/` itself, and the copy becomes the root. A plain `mkdir` would be simpler, and would stay behind on the machine.

Standard library only: workers do this, and the host tries beforehand whether they can.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any, Final

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_NOSUID, _NODEV, _BIND, _MOVE, _REC, _PRIVATE = 2, 4, 4096, 8192, 16384, 1 << 18
_READ_ONLY: Final = 1
_DETACH: Final = 2
_PIVOT_ROOT: Final = {"x86_64": 155, "i686": 217, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
"""System call numbers: the C library has no function for it."""
_ROOM: Final = "size=64m"
"""What a worker may write into a copied folder itself, rather than into a folder in it. It is memory."""

try:
    _libc: Any = ctypes.CDLL(None, use_errno=True)
except OSError:
    _libc = None


def enter(mounts: Iterable[tuple[str, str]], hidden: Iterable[str], stage: str) -> None:
    """Gives this process a view in which each (folder, place) is mounted and the `hidden` folders are empty.

    `stage` is a folder of the process's own, in use for a moment. Needs a process of one thread. OSError says what
    could not be done; the process is then fit for nothing but to end.
    """
    leave()
    copied: set[str] = set()  # what may be changed: the copies, and what is mounted here
    for folder, place in sorted(mounts, key=lambda one: one[1]):
        real = os.path.realpath(place)
        if not os.path.isdir(real):
            _make_room(real, stage, copied)
        _mount(folder, real, flags=_BIND | _REC)
        copied.add(real)  # a place in a volume is made there: it is the user's own to change
    for folder in hidden:
        _mount("none", folder, "tmpfs", _READ_ONLY | _NOSUID | _NODEV, "mode=700,size=4k")


def leave() -> None:
    """Leaves the mount namespace that this process shares with others."""
    if _libc is None or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "only Linux has namespaces")
    if os.geteuid() or _libc.unshare(_NEWNS):  # root in a container may lack the right, and not the other way
        _leave_as_user()
    # Else what is mounted here would appear on the machine as well.
    _mount("none", "/", flags=_REC | _PRIVATE)


def why_impossible(stage: str) -> str:
    """Why a process of ours cannot have a view of its own, or nothing. Tried in a child: there is no way back."""
    if not hasattr(os, "fork"):
        return "this system has no namespaces"
    answer, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try(stage, ours)
    os.close(ours)
    try:
        said = os.read(answer, 1000)
    finally:
        os.close(answer)
        os.waitpid(pid, 0)
    return said.decode("utf-8", "replace")


def _try(stage: str, answer: int) -> None:
    try:
        leave()
        _mount("none", stage, "tmpfs")
        if platform.machine() not in _PIVOT_ROOT:
            raise OSError(errno.ENOSYS, f"pivot_root is not known on {platform.machine()}")
    except BaseException as error:  # noqa: BLE001  # nothing may return from here
        os.write(answer, str(error).encode()[:1000])
    finally:
        os._exit(0)


def _leave_as_user() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEWUSER | _NEWNS), "a namespace of its own is refused")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


# ── places that do not exist ──────────────────────────────────────────────────────────────────────


def _make_room(place: str, stage: str, copied: set[str]) -> None:
    """Makes the folder `place`, in a copy of the nearest folder above it that exists."""
    above = os.path.dirname(place)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if above not in copied:
        _copy(above, stage)
        copied.add(above)
    os.makedirs(place)
    while (place := os.path.dirname(place)) != above:
        copied.add(place)


def _copy(folder: str, stage: str) -> None:
    """Puts in the place of `folder` one in memory that has the same entries."""
    mode = os.stat(folder).st_mode & 0o7777
    _mount("none", stage, "tmpfs", _NOSUID | _NODEV, f"mode={mode:o},{_ROOM}")
    for entry in os.scandir(folder):
        _repeat(entry, os.path.join(stage, entry.name))
    if folder == "/":
        _become_root(stage)
    else:
        _mount(stage, folder, flags=_MOVE)
    if os.path.commonpath([folder, stage]) == folder:
        # The entry that holds the stage was bound with what was mounted there.
        _check(_libc.umount2(os.fsencode(stage), _DETACH), f"{stage} cannot be unmounted")


def _repeat(entry: os.DirEntry[str], place: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), place)
        return
    if entry.is_dir():
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
    try:
        _mount(entry.path, place, flags=_BIND | _REC)
    except OSError:
        os.chmod(place, 0)  # what the user may not even look at; it is there, and closed


def _become_root(folder: str) -> None:
    os.chdir(folder)
    number = _PIVOT_ROOT[platform.machine()]
    # Both the same: the old root is then below the new one, and one call takes it away.
    _check(_libc.syscall(ctypes.c_long(number), b".", b"."), "the root cannot be changed")
    _check(_libc.umount2(b".", _DETACH), "the old root cannot be unmounted")
    os.chdir("/")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    texts = (os.fsencode(source), os.fsencode(target), kind.encode() or None)
    done = _libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None)
    _check(done, f"{kind or source} cannot be mounted at {target}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _check(answer: int, what: str) -> None:
    if answer:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
