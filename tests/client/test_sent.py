"""Large arguments: put into files once, named after that, and never wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runpod_flash import CpuLiveServerless, StoreError, remote
from runpod_flash.client import argument_files, sent
from runpod_flash.wire import blobs, messages
from runpod_flash.wire.kinds import INLINE_LIMIT
from tests.client.engine_double import EngineDouble

config = CpuLiveServerless("values")
SMALL = 1 << 20
LARGE = sent.HASHED + 1


@remote(config)
def first_and_last(data: Any) -> tuple[int, int]:
    return int(data[0]), int(data[-1])


@remote(config)
def both(data: Any, nested: list[Any]) -> bool:
    return bool(data == nested[0]["same"])


def named(engine: EngineDouble) -> list[list[str]]:
    """The files that each call named."""
    return [[blob for _index, blob, _size in head.blobs] for head in engine.of(messages.Submit)]


def files(engine: EngineDouble) -> list[Path]:
    return sorted((engine.home / "blobs").glob("*/*"))


def array(size: int, value: int = 1) -> Any:
    made = np.full(size, value, np.uint8)
    made.flags.writeable = False
    return made


def test_equal_values_up_to_16_mib_are_sent_once_whichever_objects_they_are(engine: EngineDouble) -> None:
    for make in (lambda: bytes(SMALL), lambda: np.zeros(SMALL, np.uint8), lambda: bytearray(SMALL)):
        assert first_and_last.sync(make()).output == (0, 0)
    asyncio.run(_twice(lambda: np.zeros(SMALL, np.uint8)))
    assert len({tuple(one) for one in named(engine)}) == len(files(engine)) == 1


async def _twice(make: Callable[[], Any]) -> None:
    for _ in range(2):
        await first_and_last(make())


@pytest.mark.parametrize("make", [lambda: os.urandom(LARGE), lambda: array(LARGE)], ids=["bytes", "array"])
def test_the_same_unchanging_value_above_that_is_sent_once(engine: EngineDouble, make: Callable[[], Any]) -> None:
    value = make()
    for _ in range(3):
        assert first_and_last.sync(value).output == (value[0], value[-1])
    assert len(files(engine)) == 1
    other = bytes(bytearray(value)) if type(value) is bytes else value.copy()
    assert first_and_last.sync(other).output == (value[0], value[-1])
    *same, another = named(engine)
    assert another not in same, "equal, but not the same"


def test_a_value_that_can_change_is_sent_as_it_is_now(engine: EngineDouble) -> None:
    value = np.zeros(LARGE, np.uint8)
    view = value[:]
    view.flags.writeable = False
    for number in range(2):
        value[-1] = number
        assert first_and_last.sync(value).output == (0, number)
        assert first_and_last.sync(view).output == (0, number)
    frozen = array(LARGE)
    assert first_and_last.sync(frozen).output == (1, 1)
    frozen.flags.writeable = True
    frozen *= 7
    frozen.flags.writeable = False
    assert first_and_last.sync(frozen).output == (7, 7)


def test_a_large_value_that_nobody_can_name_again_is_dropped_with_its_call(engine: EngineDouble) -> None:
    changing = bytearray(LARGE)
    assert first_and_last.sync(changing).output == (0, 0)
    engine.wait_for(messages.DropBlobs)
    until = time.monotonic() + 5
    while files(engine):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_file_that_is_named_again_is_young_again(engine: EngineDouble) -> None:
    first_and_last.sync(bytes(SMALL))
    (path,) = files(engine)
    inode = path.stat().st_ino
    os.utime(path, (1, 1))
    first_and_last.sync(bytes(SMALL))
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1


def test_the_oldest_of_many_values_are_dropped(engine: EngineDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "TABLE", sent.Sent())
    monkeypatch.setattr(sent, "_MOST_BYTES", 3 * SMALL)
    for number in (1, 2, 3, 1, 4, 5):
        assert first_and_last.sync(bytes([number]) * SMALL).output == (number, number)
    engine.wait_for(messages.DropBlobs, 2)
    dropped = [blob for head in engine.of(messages.DropBlobs) for blob in head.blobs]
    assert dropped == [sent.name_of(bytes([number]) * SMALL) for number in (2, 3)]
    assert len({tuple(one) for one in named(engine)}) == 5


def test_a_value_that_stands_in_several_places_travels_once(engine: EngineDouble) -> None:
    value = os.urandom(SMALL)
    assert both.sync(value, [{"same": value}]).output is True
    assert [len(one) for one in named(engine)] == [1]


@pytest.mark.parametrize("harm", ["removed", "cut short", "another byte", "another byte at the same time"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_file_that_somebody_harmed_is_written_anew(engine: EngineDouble, harm: str, size: int) -> None:
    value = bytes(size)
    assert first_and_last.sync(value).output == (0, 0)
    (path,) = files(engine)
    before = path.stat()
    if harm == "removed":
        path.unlink()
    elif harm == "cut short":
        os.truncate(path, 5)
    else:
        with open(path, "r+b") as file:
            file.write(b"\1")
    if harm.endswith("time"):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert first_and_last.sync(value).output == (0, 0)


def test_what_another_program_wrote_is_used_if_it_is_what_it_says(engine: EngineDouble) -> None:
    right, wrong = b"\1" * SMALL, b"\2" * SMALL
    for value, there in ((right, right), (wrong, right)):
        blobs.write(engine.home / "blobs", there, blob=sent.name_of(value))
    written = {path: path.stat().st_ino for path in files(engine)}
    assert first_and_last.sync(right).output == (1, 1)
    assert first_and_last.sync(wrong).output == (2, 2)
    assert [path.stat().st_ino == inode for path, inode in sorted(written.items())].count(True) == 1


def test_a_call_whose_file_the_engine_does_not_find_is_sent_again(engine: EngineDouble) -> None:
    value = bytes(SMALL)
    first_and_last.sync(value)

    def lose() -> None:
        for path in files(engine):
            path.unlink()

    engine.before_submit = lose
    assert first_and_last.sync(value).output == (0, 0)
    submits = engine.of(messages.Submit)
    assert [head.job for head in submits].count(submits[-1].job) == 2


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, sent.HASHED, sent.HASHED + 1])
def test_every_size_arrives_whole(engine: EngineDouble, size: int) -> None:
    @remote(config)
    def same(data: Any, other: Any) -> tuple[int, bool]:
        return len(data), bytes(data) == bytes(other)

    value = os.urandom(size)
    for other in (value, bytearray(value), np.frombuffer(value, np.uint8), memoryview(value)):
        assert same.sync(value, other).output == (size, True)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_an_error_before_anything_is_sent(engine: EngineDouble) -> None:
    first_and_last.sync(b"ab")
    calls = len(engine.of(messages.Submit))
    with (
        no_file_above(SMALL),
        pytest.raises(StoreError, match=r"(?s)2\.0 MiB cannot be written to .*nothing was sent") as e,
    ):
        first_and_last.sync(bytes(2 * SMALL))
    assert "test_sent.py" in (e.value.where or "")
    assert len(engine.of(messages.Submit)) == calls
    assert files(engine) == [], "nothing half written is left"
    assert first_and_last.sync(bytes(2 * SMALL)).output == (0, 0)


def test_bytes_that_nobody_else_has_are_let_go_with_their_file(
    engine: EngineDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent, "TABLE", sent.Sent())
    monkeypatch.setattr(argument_files, "_LET_GO_SECONDS", 0.01)
    value = bytes(LARGE)
    first_and_last.sync(value)
    assert len(files(engine)) == 1
    del value
    gc.collect()
    engine.wait_for(messages.DropBlobs)
    assert sent.TABLE.let_go() == (False, [])


def test_a_forked_child_knows_what_its_parent_sent(engine: EngineDouble) -> None:
    value = os.urandom(SMALL)
    first_and_last.sync(value)
    (path,) = files(engine)
    inode = path.stat().st_ino
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if first_and_last.sync(value).output == (value[0], value[-1]) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert [one.stat().st_ino for one in files(engine)] == [inode]
