"""Engines that are children of this program and end with it: FLASH_ENGINE=child, or nowhere to write.

Such an engine holds the reading end of a pipe whose other end is ours. It leaves at end of file, so it ends also
when this program is killed. Forked copies of this program close their end: they must not keep it alive.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GRACE: Final = 10.0


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    leash: int


_lock = threading.Lock()
_children: dict[Path, _Child] = {}
_temporary: dict[Path, Path] = {}


def spawn(home: Path, command: Sequence[str], environ: dict[str, str], log: int, ready: int) -> None:
    """Starts the engine of `home` as our child; one that ended there before is reaped."""
    theirs, leash = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, "--child", "--parent-fd", str(theirs)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environ,
            pass_fds=(ready, theirs),
            # Ctrl-C in a terminal reaches every process of its group; ours tells the engine what to cancel.
            start_new_session=True,
        )
    except OSError:
        os.close(leash)
        raise
    finally:
        os.close(theirs)
    with _lock:
        before = _children.get(home)
        _children[home] = _Child(process, leash)
    if before is not None:
        _end(before)


def temporary_home(instead_of: Path, why: str) -> Path:
    """A data folder for as long as this program runs; says so once."""
    with _lock:
        if instead_of not in _temporary:
            from runpod_flash.client import output  # noqa: PLC0415 - asyncio with it: the command line starts without

            _temporary[instead_of] = Path(tempfile.mkdtemp(prefix="flash-"))
            output.notice(
                f"{instead_of} cannot be written ({why}): "
                "the engine is a part of this program, and forgets its jobs when it ends"
            )
        return _temporary[instead_of]


def end_all() -> None:
    """Ends and reaps our engines, and removes what they kept in temporary folders."""
    with _lock:
        children = list(_children.values())
        folders = list(_temporary.values())
        _children.clear()
        _temporary.clear()
    for one in children:
        _end(one)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end(one: _Child) -> None:
    os.close(one.leash)
    for insist in (None, one.process.terminate, one.process.kill):
        if insist is not None:
            insist()
        try:
            one.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
        return


def _forget() -> None:
    """In a forked copy: these engines are the parent's."""
    global _lock
    _lock = threading.Lock()
    for one in _children.values():
        os.close(one.leash)
        one.process.returncode = 0  # not ours to wait for
    _children.clear()
    _temporary.clear()


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget)
