"""Artifacts of projects, unpacked where their workers look for them.

By the first worker that needs one, in a process of its own, as the host waits for no disk:
`python -m runpod_flash.host.artifacts ARCHIVE FOLDER`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from runpod_flash.host.commands import Command, Runner, Steps
from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import Children
from runpod_flash.wire import artifacts

Then = Callable[[str], None]
"""Is told that the folder is there, by "", or why it is not."""


class Artifacts:
    """Those of one data folder."""

    def __init__(self, home: Path, loop: Loop, children: Children) -> None:
        self._home = home
        self._loop = loop
        self._children = children
        self._waiting: dict[Path, list[Then]] = {}

    def here(self, folder: str) -> str:
        """The same artifact in this data folder, where it came from another one; any other folder as it is."""
        return str(artifacts.here(self._home, Path(folder)))

    def ensure(self, folder: Path, then: Then) -> None:
        """Has it unpacked, if it is the folder of an artifact and is not there; any other folder is somebody else's."""
        if folder.parent != self._home / artifacts.FOLDER or folder.is_dir():
            then("")
            return
        waiting = self._waiting.setdefault(folder, [])
        waiting.append(then)
        if len(waiting) == 1:
            Runner(self._loop, self._children, self._unpack(folder))

    def _unpack(self, folder: Path) -> Steps:
        archive = artifacts.archive_of(folder)
        command = (sys.executable, "-m", __name__, str(archive), str(folder))
        result = yield Command(command, dict(os.environ), Path("/"), nice=5)
        assert result is not None
        why = "" if not result.code else result.err.strip() or f"{archive} could not be unpacked"
        for then in self._waiting.pop(folder):
            then(why)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive to a folder that appears complete. OSError or TarError if that cannot be done."""
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:8]}-"))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract(tar, made)
        made.chmod(0o700)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        if not folder.is_dir():  # else somebody else was first
            raise


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Files alone, below the folder: an archive need not be one of ours."""
    for member in tar:
        target = folder / member.name
        if not member.isfile() or not target.resolve().is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name!r} is no file inside of the project")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        assert source is not None
        with source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
        target.chmod(0o700 if member.mode & 0o100 else 0o600)


if __name__ == "__main__":
    try:
        unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, tarfile.TarError) as error:
        sys.exit(f"the artifact {sys.argv[1]} cannot be unpacked: {error}")
