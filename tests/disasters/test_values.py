"""Large values and what can befall them: programs and engines that die, files that go, disks that are elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, EncodingError, JobHandle, StoreError, remote
from runpod_flash.client import background, sent, transfer, transport
from runpod_flash.client.link import Link
from runpod_flash.errors import EngineError
from runpod_flash.wire import blobs
from runpod_flash.wire.messages import PutBlob
from tests.disasters import program
from tests.disasters.scene import Scene, set_up, written
from tests.waiting import until

MIB = 1 << 20
config = CpuLiveServerless(name="values", workersMax=2)
SENDER = """
import sys
from runpod_flash import CpuLiveServerless, remote

@remote(CpuLiveServerless(name="values", workersMax=2))
def size(data):
    return len(data)

data = bytes(10_000_000)
print("ready", flush=True)
sys.stdin.read()
print("result", size.sync(data).output)
"""
KILLED_WHILE_WRITING = """
import resource, signal, sys
from runpod_flash import CpuLiveServerless, remote

@remote(CpuLiveServerless(name="values", workersMax=2))
def size(data):
    return len(data)

size.sync(b"")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # the kernel ends it when the file has a mebibyte
size.sync(bytes(10_000_000))
"""


@remote(config)
def size(data: Any) -> int:
    return len(data)


@remote(config)
def scribble(data: memoryview) -> tuple[int, bool]:
    """What it was given, in part; then it spoils it."""
    seen = data[0], data.readonly
    if not data.readonly:
        data[:] = bytes(len(data))
    return seen


@remote(CpuLiveLoadBalancer(name="balanced", workersMax=1))
def same(data: Any) -> Any:
    return data


@remote(config)
def make(length: int) -> bytes:
    return bytes(length)


@remote(CpuLiveServerless(name="full", workersMax=1))
def too_much(length: int) -> bytes:
    import resource

    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # from here on no file may have more
    return bytes(length)


@pytest.fixture(autouse=True)
def link() -> Iterator[None]:
    """The link of this process, ended with the test."""
    yield
    background.stop()


def files(scene: Scene) -> list[Path]:
    return sorted(path for path in (scene.home / "blobs").glob("*/*"))


def clear(scene: Scene) -> None:
    for path in files(scene):
        path.unlink()


def test_a_function_that_spoils_its_argument_spoils_it_for_nobody_else(shared: Scene) -> None:
    data = bytearray(b"\1" * MIB)
    for _ in range(2):
        assert scribble.sync(memoryview(data)).output == (1, False)
    assert scribble.sync(memoryview(bytes(data))).output == (1, True)
    assert data == b"\1" * MIB


def test_a_queued_job_whose_file_is_removed_ends_with_words_for_it(shared: Scene) -> None:
    clear(shared)
    begun, go = shared.file("begun"), shared.file("go")
    front = program.hold_only.sync.spawn(str(begun), str(go))
    written(begun)
    behind: JobHandle[Any] = program.echo_only.sync.spawn(bytes(MIB))
    (path,) = files(shared)
    path.unlink()
    go.touch()
    front.sync.wait()
    job = behind.sync.wait()
    assert job.status == "FAILED"
    assert f"the file of a large value is gone: {path}" in str(job.error)
    assert job.attempts == 1
    assert program.echo_only.sync(bytes(MIB)).output == bytes(MIB), "another call brings it anew"
    again = behind.sync.retry()
    assert again.sync.result() == bytes(MIB), "and so the first one finds it as well"


def test_a_result_whose_file_was_removed_is_told(shared: Scene) -> None:
    clear(shared)
    handle = make.sync.spawn(MIB)
    assert handle.sync.result() == bytes(MIB)
    clear(shared)
    with pytest.raises(StoreError, match=f"the result of job {handle.id} cannot be read"):
        handle.sync.wait()


def test_a_result_that_cannot_be_written_fails_its_job_once_and_leaves_nothing(shared: Scene) -> None:
    clear(shared)
    job = too_much.sync(2 * MIB)
    assert job.status == "FAILED"
    assert "a value of 2.0 MiB cannot be written" in str(job.error)
    assert job.attempts == 1
    assert files(shared) == []
    assert too_much.sync(MIB).output == bytes(MIB), "the worker goes on"


def test_two_programs_that_send_the_same_value_at_once_have_one_file(shared: Scene) -> None:
    clear(shared)
    script = shared.file("sender.py")
    script.write_text(SENDER.replace("sys.stdin.read()", ""))
    programs = [shared.start(script=script) for _ in range(2)]
    assert [shared.end(one).out.splitlines()[-1] for one in programs] == ["result 10000000"] * 2
    assert len(files(shared)) == 1


def test_what_a_program_was_writing_when_it_was_killed_is_swept_up(scene: Scene) -> None:
    script = scene.file("killed.py")
    script.write_text(KILLED_WHILE_WRITING)
    scene.run(script=script, code=-signal.SIGXFSZ)
    (half,) = files(scene)
    assert half.name.startswith("tmp.")
    assert half.stat().st_size == MIB
    assert [job["status"] for job in scene.jobs()] == ["COMPLETED"], "the call that was being made is not on record"
    os.utime(half, (1, 1))
    scene.kill_engine()
    until(lambda: files(scene) == [])


def test_an_engine_that_dies_between_the_file_and_the_call_costs_nothing(scene: Scene) -> None:
    assert size.sync(b"").output == 0
    engine = scene.engine_pid
    os.kill(engine, signal.SIGSTOP)
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(size.sync(bytes(10 * MIB)).output))
    caller.start()
    until(lambda: any(path.stat().st_size == 10 * MIB for path in files(scene)))
    scene.kill(engine)
    caller.join(30)
    assert found == [10 * MIB]
    assert len(files(scene)) == 1


# ── programs that do not see the engine's files ──────────────────────────────────────────────────


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This program sees a folder of its own where the engine says that its files are."""
    folder = tmp_path / "elsewhere"
    monkeypatch.setattr(Link, "blob_folder", lambda _link: folder)
    return folder


def test_a_program_on_another_disk_brings_what_is_missing_and_fetches_results(shared: Scene, elsewhere: Path) -> None:
    clear(shared)
    data = os.urandom(20 * MIB + 1)
    echoed = program.echo.sync([data, data[:MIB]]).output
    assert echoed == [data, data[:MIB]]
    stored = {path: path.stat().st_ino for path in files(shared)}
    assert sent.name_of(data) in {path.name for path in stored}
    before = sorted(elsewhere.glob("*/*"))
    assert size.sync(data).output == len(data)
    assert {path: path.stat().st_ino for path in files(shared)} == stored, "nothing was sent again"
    assert sorted(elsewhere.glob("*/*")) == before, "nor written where the engine cannot see it"
    assert same.sync(data) == data, "load-balanced calls do the same"


def test_an_upload_goes_on_where_it_was_interrupted_also_with_the_next_engine(scene: Scene) -> None:
    data = os.urandom(3 * MIB + 7)
    name = sent.name_of(data)

    async def main() -> None:
        link = transport.current()

        async def put(offset: int, piece: bytes, blob: str = name) -> int:
            ok = await link.request(PutBlob(blob=blob, size=len(data), offset=offset, hashed=True), (piece,))
            return int(ok.data["have"])

        assert await put(0, data[:MIB]) == MIB
        assert await put(0, data[:MIB]) == MIB, "a piece that had come is left out"
        assert await put(2 * MIB, data[:MIB]) == MIB, "and one that comes too early"
        await asyncio.to_thread(scene.kill, scene.engine_pid)
        assert await put(0, b"") == MIB, "the next engine knows"
        await transfer.upload(link, name, data)
        assert await put(0, b"") == len(data)
        assert bytes(await transfer.download(link, name, len(data))) == data
        with pytest.raises(EngineError, match="is something else"):
            await transfer.upload(link, "0" * 32, data)
        with pytest.raises(EngineError, match="no blob"):
            await transfer.download(link, "0" * 32, 1)
        with pytest.raises(EngineError, match="cannot be"):
            await put(0, b"", "../" * 10 + "aa")

    asyncio.run(main())
    (path,) = files(scene)
    assert path == blobs.path_of(scene.home / "blobs", name)
    assert path.read_bytes() == data


def test_what_is_larger_than_it_may_be_is_refused_by_name(tmp_path: Path) -> None:
    with set_up(tmp_path, FLASH_MAX_VALUE="2MB"):
        with pytest.raises(EncodingError, match=r"(?s)argument 'data' is too large: 2\.0 MiB.*FLASH_MAX_VALUE"):
            size.sync(bytes(2 * MIB))
        assert size.sync(bytes(2 * MIB - 1000)).output == 2 * MIB - 1000
        job = make.sync(2 * MIB)
        assert job.status == "FAILED"
        assert "the result is too large: 2.0 MiB" in str(job.error)
        assert job.attempts == 1
        assert make.sync(2 * MIB - 1000).output == bytes(2 * MIB - 1000)
