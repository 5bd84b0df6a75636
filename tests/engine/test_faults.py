"""A bug of ours, put in on purpose: half a decision is never kept, and nobody waits for ever."""

from __future__ import annotations

from typing import Any

import pytest

from runpod_flash.engine.attempts import Attempts
from runpod_flash.engine.planner import Planner
from runpod_flash.engine.queue import Queue
from runpod_flash.engine.store.sqlite import SqliteStore
from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Attach, Error
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def breaks(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, times: int = 1_000_000) -> None:
    """The method does what it does, and then raises, that many times."""
    works = getattr(kind, name)
    left = [times]

    def broken(*arguments: Any, **named: Any) -> Any:
        result = works(*arguments, **named)
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError("a bug")
        return result

    monkeypatch.setattr(kind, name, broken)


def come_back(scene: Scene) -> None:
    scene.advance(1)
    scene.back()
    scene.advance(0.1)


def test_a_result_that_could_not_be_recorded_for_once_is_recorded_when_it_comes_again(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(client.declare(workers_max=1))
    breaks(monkeypatch, SqliteStore, "finish", times=1)
    worker.done(b"value")
    assert scene.state(job) is JobState.RUNNING  # what the turn had written is not kept
    come_back(scene)
    assert scene.client().ask(Attach(job=job)).status == "COMPLETED"
    assert not worker.held


def test_a_result_that_can_never_be_recorded_fails_its_job_and_no_other(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn = client.declare(workers_max=1)
    job, next_one = client.submit(fn), client.submit(fn)
    breaks(monkeypatch, Attempts, "_completed")
    worker.done(b"poison")
    come_back(scene)
    come_back(scene)
    assert scene.state(job) is JobState.FAILED
    assert "could not record its result (ZeroDivisionError: a bug)" in str(scene.job(job)["error"])
    monkeypatch.undo()
    assert worker.jobs == [next_one]
    worker.done()
    assert scene.state(next_one) is JobState.COMPLETED


def test_a_request_that_meets_a_bug_is_told_and_leaves_nothing_behind(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn = client.declare(workers_max=1)
    breaks(monkeypatch, Queue, "_put", times=1)
    job = client.submit(fn, wait=False)
    (error,) = client.wire.all(Error)
    assert (error.code, error.what) == ("internal", "the engine failed: ZeroDivisionError: a bug")
    assert not scene.rows("SELECT id FROM jobs WHERE id = ?", job)
    come_back(scene)
    again = scene.client()
    second = again.submit(again.declare(workers_max=1))
    worker.done()
    assert scene.state(second) is JobState.COMPLETED


def test_a_bug_in_what_was_due_is_no_end_of_the_engine(
    scene: Scene, client: ClientSide, host: HostSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, Planner, "_plan", times=1)
    job = client.submit(client.declare(workers_max=1))
    come_back(scene)
    scene.advance(1)
    for worker in host.workers.values():
        worker.done()
    assert scene.state(job) is JobState.COMPLETED
