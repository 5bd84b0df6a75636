from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.daemon import lock
from runpod_flash.errors import EngineUnavailable


@pytest.fixture
def folder(short_path: Path) -> Path:
    return short_path


@pytest.fixture
def held(folder: Path) -> Iterator[None]:
    """Another engine has the lock of `folder`; nobody listens yet."""
    fds = lock.acquire([folder], folder / "s")
    assert fds is not None
    yield
    for fd in fds:
        os.close(fd)


def test_a_free_lock_is_taken_and_signed(folder: Path) -> None:
    fds = lock.acquire([folder], folder / "s")
    assert fds is not None
    signed = json.loads((folder / lock.NAME).read_text())
    assert signed["pid"] == os.getpid()
    assert signed["socket"] == str(folder / "s")
    assert not any(os.get_inheritable(fd) for fd in fds)
    os.close(fds[0])


def test_a_lock_file_of_a_dead_engine_means_nothing(folder: Path) -> None:
    (folder / lock.NAME).write_text("{half")
    fds = lock.acquire([folder], folder / "s")
    assert fds is not None
    os.close(fds[0])


@pytest.mark.usefixtures("held")
def test_who_finds_an_engine_that_answers_is_not_needed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        assert lock.acquire([folder], folder / "s") is None


@pytest.mark.usefixtures("held")
def test_an_engine_of_the_same_data_that_listens_elsewhere_answers_too(folder: Path) -> None:
    """Another XDG_RUNTIME_DIR: the run folder is free, the data folder is not."""
    mine = folder / "run"
    mine.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        assert lock.acquire([mine, folder], mine / "s") is None
    fds = lock.acquire([mine], mine / "s", patience_s=0)
    assert fds is not None, "its own lock must be free again"
    os.close(fds[0])


@pytest.mark.usefixtures("held")
def test_an_engine_that_does_not_answer_is_named(folder: Path) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        lock.acquire([folder], folder / "s", patience_s=0.05)
    text = str(caught.value)
    assert f"process {os.getpid()} on {socket.gethostname()}" in text
    assert f"kill {os.getpid()}" in text


def test_an_engine_of_another_machine_is_named_too(folder: Path) -> None:
    fds = lock.acquire([folder], folder / "s")
    assert fds is not None
    (folder / lock.NAME).write_text(json.dumps({"pid": 7, "host": "elsewhere", "socket": "/nowhere/s"}))
    with pytest.raises(EngineUnavailable, match="process 7 on elsewhere") as caught:
        lock.acquire([folder], folder / "s", patience_s=0.05)
    assert "stop it there" in str(caught.value)
    os.close(fds[0])
