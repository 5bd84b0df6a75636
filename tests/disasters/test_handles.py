"""Jobs taken up by their ids, in another program than the one that spawned them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runpod_flash import JobHandle, JobNotFound, JobTimeout
from runpod_flash.client import background
from tests.disasters.scene import Scene, line_of, written
from tests.waiting import until


@pytest.fixture(autouse=True)
def link() -> object:
    """The link of this process, ended with the test: its engine is."""
    yield
    background.stop()


def spawn(scene: Scene, function: str, *arguments: str | Path) -> JobHandle[object]:
    """A job of a program that has ended by now."""
    program: subprocess.Popen[str] = scene.start("spawn", function, *arguments)
    handle: JobHandle[object] = JobHandle.from_id(line_of(program))
    scene.end(program)
    return handle


@pytest.mark.parametrize("function", ["hold", "hold_async"])
def test_a_job_that_runs_is_cancelled_from_another_program(shared: Scene, function: str) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    handle = spawn(shared, function, begun, go)
    (pid,) = written(begun)
    with pytest.raises(JobTimeout, match="it goes on"):
        handle.sync.result(timeout=0.01)
    assert handle.sync.status() == "IN_PROGRESS"
    assert handle.sync.cancel() is True
    job = handle.sync.wait()
    assert job.status == "CANCELLED"
    assert "cancelled" in str(job.error)
    assert handle.sync.cancel() is False, "it had ended already"
    still = any(int(pid) == one.pid for one in shared.workers())
    assert still is (function == "hold_async"), "a plain function can only be ended with its worker"


def test_a_job_that_waits_is_cancelled_and_one_that_failed_is_tried_again(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    front = spawn(shared, "hold_only", begun, go)
    written(begun)
    behind = spawn(shared, "hold_only", begun, go)
    assert behind.sync.status() == "IN_QUEUE"
    assert behind.sync.cancel() is True
    assert behind.sync.wait().status == "CANCELLED"
    go.touch()
    assert front.sync.result(30) == int(written(begun)[0])
    failed = spawn(shared, "crash", "exit")
    assert failed.sync.wait().status == "FAILED"
    again = failed.sync.retry()
    assert again == failed
    assert again.sync.wait().attempts == 2


def test_an_id_that_nobody_knows_and_a_job_without_a_stream_are_told(shared: Scene) -> None:
    nobody: JobHandle[object] = JobHandle.from_id("no-such-job")
    for ask in (nobody.sync.status, nobody.sync.wait, nobody.sync.cancel, nobody.sync.retry):
        with pytest.raises(JobNotFound, match="no-such-job"):
            ask()
    with pytest.raises(JobNotFound, match="no-such-job"):
        list(nobody.sync.logs(follow=True))
    with pytest.raises(JobNotFound, match="no-such-job"):
        list(nobody.sync.stream())


def test_output_is_followed_over_a_retry_and_the_death_of_the_engine_each_line_once(scene: Scene) -> None:
    folder = scene.file("steps")
    folder.mkdir()
    handle = spawn(scene, "tell", folder)
    (folder / "one").touch()
    lines = handle.sync.logs(follow=True)
    assert next(lines) == "one"
    scene.kill(scene.engine_pid)
    (folder / "two").touch()  # nobody brings this line to us
    until(lambda: any("two" in file.read_text() for file in (scene.home / "logs").rglob("w*.*")))
    (folder / "three").touch()
    expected = ["two", "three", "── attempt 2 ──", "one", "two", "three"]
    assert list(lines) == expected
    assert list(handle.sync.logs()) == list(handle.sync.logs(follow=True)) == ["one", *expected]
    assert handle.sync.result() == 3
