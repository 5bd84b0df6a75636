"""kill -9 of everything that is not a worker, in the middle of its work."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runpod_flash import JobHandle
from runpod_flash.wire.status_page import read_page
from tests.disasters import program
from tests.disasters.scene import Scene, line_of, written
from tests.disasters.slow_build import WITH_DEPENDENCIES, slow_package
from tests.waiting import until


def meanwhile(begun: Path, go: Path, disaster: Callable[[int], None]) -> tuple[int, int, int, str]:
    """Something befalls a call that runs: the worker before, what it returned, its attempts, its id."""

    async def main() -> tuple[int, int, int, str]:
        call = asyncio.ensure_future(program.hold(str(begun), str(go)))
        pid = int((await asyncio.to_thread(written, begun))[0])
        await asyncio.to_thread(disaster, pid)
        job = await call
        assert job.error is None, job.error
        return pid, job.unwrap(), job.attempts, job.id

    return asyncio.run(main())


def test_an_engine_that_is_killed_costs_no_running_call_anything(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    host = 0

    def disaster(worker: int) -> None:
        nonlocal host
        host = shared.host_pid
        shared.kill_engine()
        assert shared.engine.workers() == [worker]
        go.touch()

    before, after, attempts, job = meanwhile(begun, go, disaster)
    assert before == after, "the worker ran on"
    assert attempts == 1
    assert shared.host_pid == host
    assert shared.job(job)["status"] == "COMPLETED"


def test_a_result_that_comes_while_there_is_no_engine_is_kept(shared: Scene) -> None:
    """The worker ends its call between two engines, and tells the second."""
    begun, go = shared.file("begun"), shared.file("go")

    def disaster(_worker: int) -> None:
        engine = shared.engine_pid
        os.kill(engine, signal.SIGSTOP)
        go.touch()
        until(lambda: not any(read_page(page).running for page in shared.engine.run_folder.glob("workers/*/page")))
        shared.kill(engine)

    before, after, attempts, _job = meanwhile(begun, go, disaster)
    assert before == after
    assert attempts == 1


def test_an_engine_that_is_killed_again_and_again_comes_back_every_time(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")

    def disaster(worker: int) -> None:
        for _ in range(3):
            shared.kill_engine()
            assert shared.status()["clients"] >= 1
        assert shared.engine.workers() == [worker]
        go.touch()

    before, after, attempts, _job = meanwhile(begun, go, disaster)
    assert before == after
    assert attempts == 1


def test_a_host_that_is_killed_takes_its_workers_along_and_their_jobs_run_again(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")

    def disaster(worker: int) -> None:
        process = psutil.Process(worker)
        shared.kill(shared.host_pid)
        until(lambda: not process.is_running())
        written(begun, 2)
        go.touch()

    before, after, attempts, job = meanwhile(begun, go, disaster)
    assert before != after
    assert attempts == 2
    told = shared.job(job)
    assert told["losses"] == 1
    assert "died with its host" in told["attempts_list"][0]["error"]


def test_a_zygote_that_is_killed_harms_no_worker_and_the_next_launch_works(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    launched = 0

    def disaster(worker: int) -> None:
        nonlocal launched
        zygotes = [one.pid for one in shared.zygotes()]
        assert zygotes
        shared.kill(*zygotes)
        assert worker in shared.engine.workers()
        idle = [pid for pid in shared.engine.workers() if pid != worker]
        shared.kill(*idle)
        launched = int(program.where.sync().unwrap()[0])
        go.touch()

    before, after, attempts, _job = meanwhile(begun, go, disaster)
    assert before == after != launched
    assert attempts == 1


def test_engine_and_host_killed_together_lose_only_the_attempt(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")

    def disaster(worker: int) -> None:
        process = psutil.Process(worker)
        shared.kill(shared.engine_pid, shared.host_pid)
        until(lambda: not process.is_running())
        written(begun, 2)
        go.touch()

    before, after, attempts, job = meanwhile(begun, go, disaster)
    assert before != after
    assert attempts == 2
    assert [one["end"] for one in shared.job(job)["attempts_list"]] == ["lost", "completed"]


def test_all_at_once_and_what_was_acknowledged_still_runs(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    spawned = shared.run("spawn", "hold", begun, go).out.strip()
    written(begun)
    for process in shared.engine.processes():
        process.send_signal(signal.SIGKILL)
    until(lambda: not shared.engine.processes())
    go.touch()
    assert shared.ended(spawned)["status"] == "COMPLETED"


def test_a_spawned_job_ends_without_the_program_that_spawned_it(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    caller = shared.start("spawn", "hold", begun, go)
    job = line_of(caller)
    caller.kill()
    caller.wait()
    written(begun)
    go.touch()
    assert shared.ended(job)["status"] == "COMPLETED"


def test_an_awaited_job_runs_on_when_its_caller_is_killed_and_its_result_is_kept(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    caller = shared.start("call", "hold", begun, go)
    worker = int(written(begun)[0])
    caller.kill()
    caller.wait()
    (row,) = [row for row in shared.jobs() if row["status"] == "IN_PROGRESS"]
    go.touch()
    assert shared.ended(row["job"])["status"] == "COMPLETED"

    async def take_up() -> object:
        handle: JobHandle[int] = JobHandle.from_id(row["job"])
        return await handle.result(10)

    assert asyncio.run(take_up()) == worker


@pytest.mark.parametrize("victim", ["engine", "uv", "host"])
def test_a_build_survives_the_death_of(victim: str, scene: Scene) -> None:
    begun, go = scene.file("begun"), scene.file("go")
    index = slow_package(scene.folder, begun, go) | {"XDG_CACHE_HOME": str(scene.home / "cache")}
    script = scene.folder / "built.py"
    script.write_text(WITH_DEPENDENCIES)
    caller = scene.start(script=script, **index)
    written(begun)
    if victim == "uv":
        for times in (1, 2):  # what fails from the cache alone is tried once more
            builders = written(begun, times)
            scene.kill(scene.having("uv")[0].pid)
        assert "uv was killed by SIGKILL" in scene.end(caller).out
        until(lambda: not any(psutil.pid_exists(int(pid)) for pid in builders))
        go.touch()
        caller = scene.start(script=script, **index)
    else:
        scene.kill(scene.engine_pid if victim == "engine" else scene.host_pid)
        if victim == "host":
            written(begun, 2)
        go.touch()
    assert scene.end(caller).out.split()[-3:] == ["result", "COMPLETED", "slow"]
    until(lambda: not list((scene.home / "environments").glob("tmp.*")))
