"""Calls from a user's program to a real engine, host and workers."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runpod_flash import (
    CpuLiveServerless,
    EncodingError,
    JobCancelled,
    JobHandle,
    JobNotFound,
    MissingVariableError,
    RemoteError,
    SystemPackageError,
    remote,
)
from runpod_flash.client import background, launch
from runpod_flash.settings import load
from runpod_flash.wire import messages
from runpod_flash.wire.frame import FrameReader

config = CpuLiveServerless("calls", workersMax=2)
FACTOR = 3


@pytest.fixture(scope="module", autouse=True)
def home() -> Iterator[Path]:
    """One engine for all tests of this file."""
    folder = Path(tempfile.mkdtemp(prefix="flash-calls-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLASH_HOME", str(folder / "home"))
        patch.setenv("FLASH_APP", "calls")
        patch.setenv("FROM_THE_CALLER", "caller")
        yield folder / "home"
        background.stop()
        stop_engine()
    left = [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]
    shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def stop_engine() -> None:
    sock = launch.try_connect(load().home)
    if sock is None:
        return
    with sock:
        sock.settimeout(30)
        hello = messages.Hello(proto_min=1, proto_max=1, role="client", version="0", pid=os.getpid())
        sock.sendall(hello.encode() + messages.Admin(verb="stop", args={"grace_s": 0}).encode(sid=1))
        while sock.recv(1 << 20):
            pass
    end = time.monotonic() + 20
    home = str(load().home)
    while any(home in " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < end, "the engine and its host end when they are told to"
        time.sleep(0.05)


def status() -> dict[str, Any]:
    """What the engine says of itself."""
    sock = launch.connect(launch.place(load()))
    with sock:
        sock.settimeout(10)
        hello = messages.Hello(proto_min=1, proto_max=1, role="client", version="0", pid=os.getpid())
        sock.sendall(hello.encode() + messages.Query(what="status").encode(sid=1))
        reader = FrameReader()
        while True:
            for frame in reader.feed(sock.recv(1 << 20)):
                if frame.sid == 1:
                    row: dict[str, Any] = messages.decode(frame).rows[0]
                    return row


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED


class OwnError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def helper(x: int) -> int:
    return x * FACTOR


@remote(config)
async def triple(x: int) -> int:
    return helper(x)


@remote(config)
def move(point: Point) -> Point:
    return dataclasses.replace(point, x=point.x + 1)


@remote(config, max_retries=0)
def fail(code: int) -> None:
    raise OwnError(code, "as asked")


@remote(config)
async def nap(seconds: float) -> float:
    import asyncio

    print("napping")
    await asyncio.sleep(seconds)
    return seconds


def test_a_function_with_its_helpers_and_constants_runs_elsewhere() -> None:
    @remote(config)
    def where() -> int:
        import os

        return os.getpid()

    async def main() -> tuple[Any, Any]:
        return await triple(5), await where()

    job, pid = asyncio.run(main())
    assert job.unwrap() == 15
    assert job.attempts == 1
    assert job.worker_id
    assert 0 <= job.ended_at - job.started_at <= 1
    assert pid.unwrap() != os.getpid()


def test_classes_and_enums_of_the_users_own_come_back_as_themselves() -> None:
    point = asyncio.run(move(Point(1))).unwrap()
    assert type(point) is Point
    assert point == Point(2)
    assert point.colour is Colour.RED


def test_the_original_exception_comes_back_with_its_attributes_and_the_users_own_lines() -> None:
    job = asyncio.run(fail(7))
    assert (job.status, job.error) == ("FAILED", "OwnError: as asked")
    assert type(job.exception) is OwnError
    assert job.exception.code == 7
    assert job.traceback is not None
    assert 'raise OwnError(code, "as asked")' in job.traceback
    assert "runpod_flash" not in job.traceback
    for kind in (OwnError, RemoteError):
        with pytest.raises(kind, match="as asked"):
            job.unwrap()


def test_variables_are_added_and_taken_from_the_caller_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    @remote(config, env={"FIXED": "1", "FROM_THE_CALLER": None, "NOT_SET": None})
    def look() -> dict[str, str | None]:
        import os

        return {name: os.environ.get(name) for name in ("FIXED", "FROM_THE_CALLER", "NOT_SET", "FLASH_APP")}

    with pytest.raises(MissingVariableError, match="NOT_SET"):
        asyncio.run(look())
    monkeypatch.setenv("NOT_SET", "now")
    seen = asyncio.run(look()).unwrap()
    assert seen == {"FIXED": "1", "FROM_THE_CALLER": "caller", "NOT_SET": "now", "FLASH_APP": None}
    monkeypatch.setenv("NOT_SET", "later")
    assert asyncio.run(look()).unwrap()["NOT_SET"] == "later"


def test_a_helper_that_is_defined_anew_is_used_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[int]:
        before = (await triple(1)).unwrap()
        monkeypatch.setitem(globals(), "FACTOR", 10)
        return [before, (await triple(1)).unwrap()]

    assert asyncio.run(main()) == [3, 10]


def test_many_calls_at_once_and_maps_give_everything_in_order() -> None:
    async def main() -> None:
        gathered = await asyncio.gather(*(triple(n) for n in range(500)))
        assert [job.unwrap() for job in gathered] == [3 * n for n in range(500)]
        assert [job.unwrap() async for job in triple.map(range(500))] == [3 * n for n in range(500)]
        unordered = [job.unwrap() async for job in triple.map(range(200), ordered=False)]
        assert sorted(unordered) == [3 * n for n in range(200)]

    asyncio.run(main())
    assert [job.unwrap() for job in triple.sync.map(range(100))] == [3 * n for n in range(100)]


def test_arguments_and_results_of_many_megabytes_arrive_whole() -> None:
    import numpy as np

    @remote(config)
    def turn(data: bytes) -> bytes:
        return data[::-1]

    data = os.urandom(5_000_000)
    assert asyncio.run(turn(data)).output == data[::-1]
    with open(os.devnull) as file, pytest.raises(EncodingError, match="argument 'data'"):
        asyncio.run(turn(file))  # type: ignore[arg-type]
    assert np.frombuffer(asyncio.run(turn(data)).output or b"", np.uint8).size == 5_000_000


def test_a_spawned_job_outlives_its_program_and_is_taken_up_by_id(tmp_path: Path) -> None:
    program = tmp_path / "spawner.py"
    program.write_text(
        "import asyncio\n"
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless('calls', workersMax=2))\n"
        "def later(x):\n"
        "    import os, time\n"
        "    print('working')\n"
        f"    while not os.path.exists({str(tmp_path / 'go')!r}):\n"
        "        time.sleep(0.01)\n"
        "    return x + 1\n"
        "async def main():\n"
        "    first = await later.spawn(41, idempotency_key='once')\n"
        "    second = await later.spawn(1, idempotency_key='once')\n"
        "    assert first == second\n"
        "    print(first.id)\n"
        "asyncio.run(main())\n"
    )
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    handle = JobHandle.from_id(said.stdout.strip())
    assert handle.sync.status() in ("IN_QUEUE", "IN_PROGRESS")
    (tmp_path / "go").touch()
    assert list(handle.sync.logs(follow=True)) == ["working"]
    assert handle.sync.result(timeout=20) == 42
    assert handle.sync.status() == "COMPLETED"
    assert list(handle.sync.logs()) == ["working"]


def test_a_job_is_cancelled_by_its_handle_and_by_giving_up() -> None:
    async def main() -> tuple[Any, Any]:
        handle = await nap.spawn(60)
        while await handle.status() != "IN_PROGRESS":
            await asyncio.sleep(0.02)
        await handle.cancel()
        cancelled = await handle
        await handle.cancel()
        given_up = asyncio.ensure_future(nap(60))
        await asyncio.sleep(0.3)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        return cancelled, handle

    cancelled, handle = asyncio.run(main())
    assert cancelled.status == "CANCELLED"
    with pytest.raises(JobCancelled):
        handle.sync.result()
    end = time.monotonic() + 10
    while status()["jobs"].get("IN_PROGRESS", 0):
        assert time.monotonic() < end, "nothing of it runs on"
        time.sleep(0.05)
    with pytest.raises(JobNotFound):
        JobHandle.from_id("01a00000-0000-7000-8000-000000000000").sync.status()


def test_a_failed_job_is_tried_again_under_its_id(tmp_path: Path) -> None:
    @remote(config, max_retries=0)
    def needs(path: str) -> str:
        with open(path) as file:
            return file.read()

    file = tmp_path / "input"
    handle = needs.sync.spawn(str(file))
    assert handle.sync.wait().error is not None
    file.write_text("there")
    assert handle.sync.retry() == handle
    assert handle.sync.result(timeout=20) == "there"


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian-like system")
def test_a_system_package_that_is_nowhere_is_an_error_before_the_job_runs() -> None:
    @remote(config, system_dependencies=["no-such-package-here"])
    def never() -> None: ...

    job = asyncio.run(never())
    assert job.error is not None
    assert job.error.startswith("SystemPackageError: there is no system package 'no-such-package-here'")
    assert job.attempts == 0
    with pytest.raises(SystemPackageError):
        job.unwrap()


def test_what_a_job_prints_is_on_the_callers_standard_error_before_the_call_returns(tmp_path: Path) -> None:
    program = tmp_path / "printer.py"
    program.write_text(
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless('calls', workersMax=2))\n"
        "def speak(n):\n"
        "    import os, sys\n"
        "    for i in range(n): print('line', i)\n"
        "    print('error', file=sys.stderr)\n"
        "    os.write(1, b'bare\\n')\n"
        "speak.sync(3)\n"
        "print('after')\n"
    )
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert said.stdout == "after\n"
    lines = [line.partition("] ")[2] for line in said.stderr.splitlines() if line.startswith("[speak ")]
    assert sorted(lines) == ["bare", "error", "line 0", "line 1", "line 2"]
    assert [line for line in lines if line.startswith("line")] == ["line 0", "line 1", "line 2"]


def test_a_killed_engine_is_started_again_and_nothing_that_was_under_way_is_lost() -> None:
    async def main() -> list[float]:
        calls = [asyncio.ensure_future(nap(0.4)) for _ in range(6)]
        spawned = await nap.spawn(0.1)
        await asyncio.sleep(0.3)
        before = await asyncio.to_thread(status)
        os.kill(before["pid"], signal.SIGKILL)
        results = [(await call).unwrap() for call in calls]
        results.append(await spawned.result(timeout=30))
        after = await asyncio.to_thread(status)
        assert after["pid"] != before["pid"]
        return results

    assert asyncio.run(main()) == [0.4] * 6 + [0.1]


INTERRUPTED = """
import asyncio, sys
from runpod_flash import CpuLiveServerless, remote
@remote(CpuLiveServerless("calls", workersMax=2))
async def nap(seconds):
    import asyncio
    print("napping", flush=True)
    await asyncio.sleep(seconds)
async def main():
    print((await nap.spawn(1)).id, flush=True)
    await asyncio.gather(nap(60), nap(60))
if sys.argv[1] == "async":
    asyncio.run(main())
else:
    nap.sync(60)
"""


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_ctrl_c_cancels_what_is_awaited_and_the_program_ends_at_once(kind: str, tmp_path: Path) -> None:
    program = tmp_path / "interrupted.py"
    program.write_text(INTERRUPTED)
    running = subprocess.Popen(
        [sys.executable, str(program), kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    assert running.stdout is not None
    while "napping" not in running.stderr.readline():
        assert running.poll() is None
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == -signal.SIGINT
    assert time.monotonic() - began < 3
    if kind == "async":
        spawned = JobHandle.from_id(running.stdout.readline().strip())
        assert spawned.sync.wait().status == "COMPLETED", "what was spawned is not the program's any more"
    running.stdout.close()
    running.stderr.close()
    end = time.monotonic() + 10
    while (counts := status()["jobs"]).get("IN_PROGRESS", 0) or counts.get("IN_QUEUE", 0):
        assert time.monotonic() < end, counts
        time.sleep(0.05)


def test_a_program_that_is_killed_cancels_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = tmp_path / "killed.py"
    program.write_text(
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless('calls', workersMax=2))\n"
        "def write(path):\n"
        "    import time\n"
        "    print('started', flush=True)\n"
        "    time.sleep(1)\n"
        "    open(path, 'w').close()\n"
        f"write.sync({str(mark)!r})\n"
    )
    running = subprocess.Popen([sys.executable, str(program)], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    while "started" not in running.stderr.readline():
        assert running.poll() is None
    running.kill()
    running.wait()
    running.stderr.close()
    end = time.monotonic() + 10
    while not mark.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_program_with_an_engine_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    program = tmp_path / "child.py"
    program.write_text(
        "import json, os, psutil\n"
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless('own'))\n"
        "def double(x): return x * 2\n"
        "value = double.sync(4).unwrap()\n"
        "family = [one.pid for one in psutil.Process().children(recursive=True)]\n"
        "print(json.dumps([value, family]))\n"
    )
    environ = {**os.environ, "FLASH_HOME": str(tmp_path / "own"), "FLASH_ENGINE": "child"}
    said = subprocess.run([sys.executable, str(program)], env=environ, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    value, family = json.loads(said.stdout)
    assert value == 8
    assert family, "engine and host are children of the program"
    assert [pid for pid in family if psutil.pid_exists(pid)] == []
    left = [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or ())]
    assert left == []


def test_a_home_that_cannot_be_written_still_gives_results_and_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    program = tmp_path / "child.py"
    program.write_text(
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless('own'))\n"
        "def double(x): return x * 2\n"
        "print(double.sync(4))\n"
    )
    environ = {**os.environ, "FLASH_HOME": str(blocked / "home")}
    said = subprocess.run([sys.executable, str(program)], env=environ, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "8\n"), said.stderr
    assert "cannot be written" in said.stderr
