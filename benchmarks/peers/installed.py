"""How a peer is installed: apart from everything of ours, and once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.nursery import CACHE
from benchmarks.peers.catalogue import Peer

LIMIT_S: Final = 600
"""For each step: the largest of them is 70 MB over the network."""


class NotInstallable(Exception):
    """The installer's own reason."""


def interpreter(peer: Peer) -> str:
    """The peer's own interpreter; installs it first, once for these versions and this Python."""
    identity = " ".join((sys.version, *peer.requirements))
    folder = CACHE / "peers" / f"{peer.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        if peer.requirements:
            _uv("pip", "install", "--python", str(python), *peer.requirements)
        complete.touch()
    return str(python)


def _uv(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("uv")), "--quiet", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NotInstallable(f"`uv {arguments[0]}` was not done after {LIMIT_S} s") from None
    if done.returncode != 0:
        raise NotInstallable(" ".join(done.stderr.split())[:300])
