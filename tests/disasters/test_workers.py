"""What befalls a worker costs its own attempt, and the error says what it was."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from tests.disasters import program
from tests.disasters.scene import Scene, written
from tests.waiting import until

WAYS = {
    "segfault": (f"killed by signal {signal.SIGSEGV.value} (SIGSEGV)", "program.py", " in crash"),
    "abort": (f"killed by signal {signal.SIGABRT.value} (SIGABRT)", "last words before abort", " in crash"),
    "kill": ("killed by signal 9 (SIGKILL)", "last words before kill"),
    "exit": ("exited with code 3", "last words before exit"),
}


@pytest.mark.parametrize("how", WAYS)
def test_a_worker_that_dies_costs_its_own_attempt_and_says_how(shared: Scene, how: str) -> None:
    begun, go = shared.file("begun"), shared.file("go")

    async def main() -> None:
        neighbour = asyncio.ensure_future(program.hold(str(begun), str(go)))
        pid = int((await asyncio.to_thread(written, begun))[0])
        job = await program.crash(how)
        assert job.status == "FAILED"
        assert job.attempts == 1
        assert [words for words in WAYS[how] if words not in str(job.error)] == []
        go.touch()
        assert (await neighbour).output == pid
        assert neighbour.result().attempts == 1
        assert (await program.echo("next")).output == "next"

    asyncio.run(main())


def test_a_lost_attempt_is_on_record_and_the_job_runs_again(shared: Scene) -> None:
    job = program.crash_at_first.sync(str(shared.file("marker")))
    assert job.output == "lives after 1"
    assert job.attempts == 2
    told = shared.job(job.id)
    assert (told["losses"], told["failures"]) == (1, 0)
    first, second = told["attempts_list"]
    assert first["end"] == "lost"
    assert "SIGKILL" in first["error"]
    assert first["worker"] != second["worker"]
    assert second["end"] == "completed"


def test_a_job_that_kills_every_worker_ends_and_names_its_losses(shared: Scene) -> None:
    marker = shared.file("marker")
    job = program.crash_at_first.sync(str(marker), 99)
    assert job.status == "FAILED"
    assert "lost 3 times" in str(job.error)
    assert str(job.error).count("SIGKILL") >= 3
    assert marker.read_text() == "xxx"
    assert [attempt["end"] for attempt in shared.job(job.id)["attempts_list"]] == ["lost"] * 3


def test_a_worker_that_eats_all_its_memory_is_told_apart(shared: Scene) -> None:
    job = program.eat.sync(600)
    assert job.status == "FAILED"
    assert "ran out of memory" in str(job.error)
    assert "its limit is 307 MB" in str(job.error)
    assert program.nibble.sync(10).output == 10


@pytest.mark.parametrize("what", ["garbage", "invalid UTF-8", "frames", "a long line", "no end"])
def test_whatever_a_worker_writes_to_its_standard_output_is_only_output(shared: Scene, what: str) -> None:
    job = program.babble.sync(what)
    assert job.output == what
    assert job.attempts == 1
    assert shared.flash("logs", job.id).out
    assert program.echo.sync(what).output == what


def test_a_killed_worker_leaves_no_zombie_and_no_scratch_folder(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")

    async def main() -> None:
        call = asyncio.ensure_future(program.hold(str(begun), str(go)))
        pid = int((await asyncio.to_thread(written, begun))[0])
        os.kill(pid, signal.SIGKILL)
        go.touch()
        assert (await call).attempts == 2

    asyncio.run(main())
    host = psutil.Process(shared.host_pid)
    until(lambda: not [one for one in host.children(recursive=True) if one.status() == psutil.STATUS_ZOMBIE])
    folders = shared.engine.run_folder / "workers"
    until(lambda: len(list(folders.iterdir())) == len(shared.engine.workers()))
