"""Where things are kept: the data folder, its disk, and the folder of the socket. Nothing is made or changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runpod_flash.wire import rundir
from runpod_flash.wire.check import OK, PROBLEM, WARNING, Check

_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "sshfs", "davfs"}
)
"""File systems of other machines: SQLite's log needs memory that all its users share, and locks that hold."""
_LITTLE: Final = 1 << 30
_NOTHING: Final = 64 << 20
_PARTS: Final = ("store.sqlite", "store.sqlite-wal", "blobs", "environments", "runtime", "logs", "engine.log")
_PATIENCE_S: Final = 5.0


def data_folder(home: Path) -> Iterator[Check]:
    """Whether it is there, and can be written."""
    there = _nearest(home)
    facts = {"path": str(home), "exists": there == home}
    if not there.is_dir():
        yield Check("data folder", PROBLEM, f"{there} is no folder", "set FLASH_HOME to another place", facts)
    elif not os.access(there, os.W_OK | os.X_OK):
        fix = f"make it writable (chown {_user()} {there}), or set FLASH_HOME to another folder"
        yield Check("data folder", PROBLEM, f"{there} cannot be written by {_user()}", fix, facts)
    elif there != home:
        yield Check("data folder", OK, f"{home}, which the first call makes", facts=facts)
    elif home.stat().st_mode & 0o077:
        fix = f"chmod 700 {home}"
        yield Check("data folder", WARNING, f"{home} is open to others, and holds values of variables", fix, facts)
    else:
        yield Check("data folder", OK, str(home), facts=facts)


def disk(home: Path) -> Iterator[Check]:
    """The file system under it: of which kind, and how much is free."""
    there = _nearest(home)
    kind, mounted = _mount_of(there)
    found = os.statvfs(there)
    free, files = found.f_bavail * found.f_frsize, found.f_favail
    facts = {"kind": kind, "mounted_at": mounted, "free_bytes": free, "free_files": files}
    told = f"{kind or 'a file system'} at {mounted}, {free / 1e9:.1f} GB free"
    if kind.removeprefix("fuse.") in _REMOTE:
        fix = "set FLASH_HOME to a folder on a disk of this machine"
        yield Check("disk", WARNING, f"{told}: it is another machine's, and the store may be damaged there", fix, facts)
    elif found.f_flag & os.ST_RDONLY:
        yield Check("disk", PROBLEM, f"{told}, mounted read-only", "set FLASH_HOME to another folder", facts)
    elif free < _NOTHING:
        yield Check("disk", PROBLEM, told, "free some space: calls are refused when there is none", facts)
    elif free < _LITTLE or (found.f_files and files < 10_000):
        fix = "free some space, for instance with: flash deps prune"
        yield Check("disk", WARNING, f"{told}, and {files} more files", fix, facts)
    else:
        yield Check("disk", OK, told, facts=facts)


def contents(home: Path) -> Iterator[Check]:
    """What takes how much of it."""
    if not home.is_dir():
        return
    end = time.monotonic() + _PATIENCE_S
    sizes = {name: _size(home / name, end) for name in _PARTS if (home / name).exists()}
    aside = sorted(path.name for path in home.glob("replaced-*"))
    told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) or "nothing yet"
    about = "" if time.monotonic() < end else " (at least: there are too many files to count them all)"
    yield Check("contents", OK, told + about, facts={"bytes": sizes})
    if aside:
        fix = f"when it is not needed any more: rm -r {home}/{aside[0]}"
        yield Check("contents", WARNING, f"a store that a restore has replaced: {', '.join(aside)}", fix)


def socket_folder(home: Path) -> Iterator[Check]:
    """Where the engine listens: a folder of ours alone, with a short path."""
    folder = rundir.rundir(home)
    facts = {"path": str(folder)}
    for path in (folder.parent, folder):
        if os.path.lexists(path):
            try:
                rundir.check(path)
            except rundir.RundirError as error:
                fix = f"remove it (sudo rm -r {path}), or set XDG_RUNTIME_DIR to a folder of your own with mode 700"
                yield Check("socket folder", PROBLEM, str(error), fix, facts)
                return
    base = folder.parent.parent
    if not os.access(base, os.W_OK | os.X_OK):
        fix = "set XDG_RUNTIME_DIR to a folder of your own"
        yield Check("socket folder", PROBLEM, f"{base} cannot be written", fix, facts)
        return
    wanted = os.environ.get("XDG_RUNTIME_DIR", "")
    note = f" (XDG_RUNTIME_DIR={wanted} cannot be used)" if wanted and str(base) != wanted else ""
    yield Check("socket folder", OK, f"{folder}{note}", facts=facts)


def _nearest(path: Path) -> Path:
    """The path, or what is there above it."""
    return next((one for one in (path, *path.parents) if os.path.lexists(one)), Path("/"))


def _mount_of(path: Path) -> tuple[str, str]:
    """Kind and place of the file system that holds a path: the longest of those mounted above it."""
    real = os.path.realpath(path)
    found = ("", "/")
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return found
    for line in lines:
        before, _, after = line.partition(" - ")
        at = before.split()[4].replace("\\040", " ")
        if (real == at or real.startswith(at.rstrip("/") + "/")) and len(at) >= len(found[1]):
            found = (after.split()[0], at)
    return found


def _size(path: Path, end: float) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        if time.monotonic() > end:
            break
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:  # gone meanwhile
                continue
    return total


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
