from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runpod_flash
from runpod_flash.payload import cloudpickle_private
from tests.worker.peer import PATIENCE_S, Peer, Zygote, start_program


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the host copies for workers."""
    folder = tmp_path_factory.mktemp("runtime")
    package = Path(str(runpod_flash.__file__)).parent
    shutil.copytree(package, folder / "runpod_flash", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(cloudpickle_private.find(), folder / "_flash_cloudpickle.py")
    return folder


@pytest.fixture(autouse=True)
def _subreaper() -> Iterator[None]:
    """Workers are re-parented to us, as to a host; engines of other tests, which nobody here reaps, are not."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    yield
    libc.prctl(36, 0, 0, 0, 0)


@pytest.fixture(scope="session")
def parent(runtime: Path) -> Iterator[Zygote]:
    """A zygote that is ready."""
    found = start_program(runtime, "zygote.py")
    found.ready = found.hear()
    yield found
    found.link.close()
    assert found.process.wait(PATIENCE_S) == 0


@pytest.fixture
def new_peer(parent: Zygote, tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Forks workers that are not connected yet."""
    peers: list[Peer] = []

    def make(at_once: int = 0, **variables: str) -> Peer:
        scratch = tmp_path / f"w{len(peers)}"
        scratch.mkdir()
        peer = Peer(scratch, f"w{len(peers)}")
        peers.append(peer)
        peer.started(parent.ask(peer.order(at_once, **variables), peer.descriptors()))
        return peer

    yield make
    for peer in peers:
        peer.stop()


@pytest.fixture
def peer(new_peer: Callable[..., Peer]) -> Peer:
    """A worker that is connected and ready."""
    found = new_peer()
    found.connect()
    return found
