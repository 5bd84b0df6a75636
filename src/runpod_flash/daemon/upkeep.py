"""`python -m runpod_flash.daemon.upkeep`: verify, back up or restore a store, in a process of its own.

So none of it takes time from the engine's loop or its reading thread, what is written is written with the rights and
the disk quota of whoever asked, and Ctrl-C ends it. One JSON object on standard output says how it went.

`--locked` takes the engine's lock: no engine starts meanwhile. Without it one may run beside; it keeps its blobs for as
long as whoever started this asks it to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from runpod_flash.daemon import lock
from runpod_flash.daemon.main import BURY_S, STORE
from runpod_flash.engine.store import backup, restore, verify
from runpod_flash.errors import EngineRefused, FlashError, StoreError
from runpod_flash.host import strays
from runpod_flash.wire import rundir

BLOBS: Final = "blobs"
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does it; its exit code."""
    options = _parse(arguments)
    for number in _ENDS:
        signal.signal(number, _interrupt)
    try:
        with _lock(options.home, f"flash engine {options.verb}") if options.locked else contextlib.nullcontext():
            answer = _do(options)
    except FlashError as error:
        words = {"code": error.code, "what": error.what, "why": error.why or "", "fix": error.fix or ""}
        answer = {"error": words}
    except KeyboardInterrupt:
        return 130
    print(json.dumps(answer))  # noqa: T201 - the answer to whoever started this
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m runpod_flash.daemon.upkeep", description="Looks after a store.")
    parser.add_argument("verb", choices=("verify", "backup", "restore"))
    parser.add_argument("--home", required=True, type=Path, help="the data folder")
    parser.add_argument("--path", type=Path, help="the backup")
    parser.add_argument("--force", action="store_true", help="write over a backup that is there")
    parser.add_argument("--locked", action="store_true", help="keep engines from starting")
    return parser.parse_args(arguments)


def _do(options: argparse.Namespace) -> dict[str, Any]:
    home: Path = options.home
    store, blobs = home / STORE, home / BLOBS
    if options.verb == "restore":
        strays.bury(rundir.rundir(home), BURY_S)
        return restore.restore(options.path, home, store, blobs)
    if not store.is_file():
        raise StoreError(f"there is no store in {home}", why="no engine has run there yet", fix="see: flash doctor")
    if options.verb == "backup":
        return backup.write(home, store, blobs, options.path, force=options.force)
    return _verify(store, blobs)


def _verify(store: Path, blobs: Path) -> dict[str, Any]:
    findings = verify.verify(store, blobs)
    try:
        facts = verify.facts(store)
    except Exception as error:  # noqa: BLE001 - a damaged store can fail in any way, and the findings say so already
        facts = {"unreadable": str(error)}
    return {"store": str(store), **facts, "findings": [finding._asdict() for finding in findings]}


@contextlib.contextmanager
def _lock(home: Path, doing: str) -> Iterator[None]:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = rundir.prepare(home)
    held = lock.acquire([folder, home], folder / rundir.SOCKET, doing=doing)
    if held is None:
        raise EngineRefused("an engine was started meanwhile", fix="ask again")
    try:
        yield
    finally:
        for fd in held:
            os.close(fd)


def _interrupt(*_: object) -> None:
    """Ends what was begun and removes it; a second signal must not interrupt that."""
    for number in _ENDS:
        # Not SIG_IGN: one that has arrived already would be complained about on stderr.
        signal.signal(number, lambda *_: None)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
