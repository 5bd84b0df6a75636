"""What is left of a worker after its end: processes that it started and that outlived it.

Most are found by their session or their parents. One that made itself a daemon has neither any more; it
became a child of the host, and the variables it was started with tell whose it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from runpod_flash.host.processes import Children, Process, kill_tree, look_up, send, snapshot, tree_of
from runpod_flash.host.worker import FOLDER, MARK, leftover

_PAUSE_S: Final = 0.01
_OURS = (b"runpod_flash.daemon", b"runpod_flash.host")


def kill_rest(leader: int, worker: str, children: Children, *, alone: bool) -> None:
    """Kills what a worker that has been reaped left behind.

    Orphans that do not say whose they are may belong to another worker: they are ended with the last one.
    They may also be a child that a zygote has just forked and not yet named: not while one is awaited.
    """
    table = snapshot()
    orphans = _orphans(table, children)
    rest = [row for row in table.values() if row.session == leader]
    rest += _started_by(worker, orphans)
    if alone and not children.expected:
        rest += [row for row in orphans if not _is_flash(row.pid)]
    for row in rest:
        for process in tree_of(row.pid, table):
            send(process.pid, signal.SIGKILL)


def orphans_of(worker: str, table: Mapping[int, Process], children: Children) -> list[int]:
    """What a worker started that has lost its parents, and is the host's child now."""
    return [row.pid for row in _started_by(worker, _orphans(table, children))]


def kill_orphans(children: Children) -> bool:
    """Kills what nobody has named, once no worker and no zygote is left; whether there was any.

    A zygote that was killed in the midst of a fork leaves such a child.
    """
    table = snapshot()
    orphans = [row for row in _orphans(table, children) if not _is_flash(row.pid)]
    for row in orphans:
        for process in tree_of(row.pid, table):
            send(process.pid, signal.SIGKILL)
    return bool(orphans)


def kill_leftover(worker: str, pid: int, started: int) -> None:
    """Kills what is left of a worker whose host is gone; `pid` only if it `started` at that time."""
    row = look_up(pid) if pid else None
    if row and started and row.started == started:
        kill_tree(pid)
    mine = [row for row in snapshot().values() if row.pid != os.getpid()]
    for row in _started_by(worker, mine):
        send(row.pid, signal.SIGKILL)


def bury(rundir: Path, patience_s: float) -> None:
    """Removes what lies there of workers that have ended, when no other host will come and do it.

    Some may still be ending: a host that lives is at it, or has been killed and the kernel kills them after it.
    Those are waited for, `patience_s` at most; what is there afterwards belongs to a host that lives.
    """
    folder = rundir / FOLDER
    end = time.monotonic() + patience_s
    for scratch in folder.iterdir() if folder.is_dir() else ():
        _, pid, started = leftover(scratch)
        while (alive := _runs(pid, started)) and time.monotonic() < end:
            time.sleep(_PAUSE_S)
        if not alive:
            kill_leftover(scratch.name, 0, 0)
            shutil.rmtree(scratch, ignore_errors=True)


def _runs(pid: int, started: int) -> bool:
    """Whether a process has not ended: one that nobody has waited for yet has."""
    row = look_up(pid) if pid else None
    return row is not None and row.started == started and row.state not in "ZX"


def _orphans(table: Mapping[int, Process], children: Children) -> list[Process]:
    me, watched = os.getpid(), children.watched
    return [row for row in table.values() if row.ppid == me and row.pid not in watched]


def _started_by(worker: str, rows: Iterable[Process]) -> list[Process]:
    mark = f"{MARK}={worker}".encode()
    return [row for row in rows if mark in _read(row.pid, "environ").split(b"\0")]


def _is_flash(pid: int) -> bool:
    """An engine that put itself into the background, or what an engine that died had started."""
    command = _read(pid, "cmdline")
    return any(name in command for name in _OURS)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
