"""Files with large values: taken up when a call names them, kept while a job needs them, and then removed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from runpod_flash.engine.store import sqlite
from runpod_flash.engine.store.verify import verify
from runpod_flash.model.job import JobPolicy, new_job_id
from runpod_flash.wire import blobs
from runpod_flash.wire.messages import Admin, DropBlobs, Error, Ok, Query, Submit
from tests.engine.scene import ClientSide, Scene, WorkerSide

LARGE = b"large"


def file(scene: Scene, name: str = "") -> Path:
    """A file as a client leaves it."""
    folder = scene.home / "blobs"
    return blobs.path_of(folder, blobs.write(folder, LARGE, blob=name))


def call(fn: int, *files: Path, job: str = "") -> Submit:
    """A call whose arguments are in files."""
    moved = [(index, path.name, len(LARGE)) for index, path in enumerate(files)]
    return Submit(job=job or new_job_id(), fn=fn, policy=JobPolicy(max_retries=0), blobs=moved)


def grow_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1, 1))


@pytest.mark.parametrize("harm", ["removed", "cut short"])
def test_a_call_that_names_a_file_that_is_not_whole_is_refused_and_not_on_record(
    scene: Scene, client: ClientSide, worker: WorkerSide, harm: str
) -> None:
    path = file(scene)
    if harm == "removed":
        path.unlink()
    else:
        path.write_bytes(LARGE[:-1])
    answer = client.ask(call(client.declare(workers_max=1), path), [b""])
    assert isinstance(answer, Error)
    assert answer.code == "no_blob"
    assert path.name in answer.why
    assert scene.rows("SELECT * FROM jobs WHERE args_head IS NOT NULL") == scene.rows("SELECT * FROM blobs") == []


def test_a_file_is_kept_as_long_as_one_job_needs_it(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn, path = client.declare(workers_max=1), file(scene)
    for seconds in (90, 40):
        client.says(call(fn, path), [b""])
        scene.advance(1)
        worker.done()
        scene.advance(seconds)
    grow_old(path)
    assert len(scene.rows("SELECT * FROM blobs")) == 1, "the first job is forgotten"
    assert path.exists()
    scene.restart()
    scene.advance(0.1)
    assert path.exists(), "old, but on record"
    scene.advance(120)
    assert scene.rows("SELECT * FROM blobs") == []
    assert not path.exists()


def test_a_file_that_a_call_names_in_the_turn_that_forgets_its_last_job_is_kept(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn, path = client.declare(workers_max=1), file(scene)
    client.says(call(fn, path), [b""])
    worker.done()
    forget, again = scene.store.forget, []

    def and_a_call_comes(jobs: Sequence[str], now_ms: int) -> list[str]:
        named = forget(jobs, now_ms)
        if named:
            again.append(call(fn, path))
            client.wire.says(again[0], [b""], client.next_sid())
        return named

    monkeypatch.setattr(scene.store, "forget", and_a_call_comes)
    scene.advance(125)
    assert [row["id"] for row in scene.rows("SELECT id FROM jobs")] == [again[0].job]
    assert path.exists()


def test_files_of_nobody_go_when_an_engine_starts_and_every_hour(scene: Scene) -> None:
    old, fresh = file(scene), file(scene)
    half = old.with_name("tmp.7.ab")
    half.write_bytes(b"")
    grow_old(old, half)
    scene.restart()
    scene.advance(1)
    assert [path.exists() for path in (old, half, fresh)] == [False, False, True]
    grow_old(fresh)
    scene.advance(3600)
    assert not fresh.exists()


def test_a_stray_that_a_call_names_before_it_is_removed_stays(scene: Scene, client: ClientSide) -> None:
    fn = client.declare(workers_max=1)
    first, others = file(scene, "f" * 32), [file(scene, f"{number:032x}") for number in range(200)]
    grow_old(first, *others)
    scene.restart()  # all are found, and the last of them is to be removed in the second slice
    assert first.exists()
    scene.client().says(call(fn, first), [b""])
    scene.advance(1)
    assert [path for path in (first, *others) if path.exists()] == [first]


def test_files_that_somebody_reads_stay_until_he_is_gone(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn, path = client.declare(workers_max=1), file(scene)
    reader = scene.client()
    assert isinstance(reader.ask(Admin(verb="hold_blobs")), Ok)
    client.says(call(fn, path), [b""])
    worker.done()
    scene.advance(300)
    assert scene.rows("SELECT * FROM blobs") == []
    assert path.exists()
    reader.leave()
    scene.advance(0.1)
    assert not path.exists()


@pytest.mark.parametrize("end", ["completed", "failed", "running"])
def test_arguments_that_will_not_be_named_again_go_with_a_job_that_has_completed(
    scene: Scene, client: ClientSide, worker: WorkerSide, end: str
) -> None:
    fn, mine, other = client.declare(workers_max=1), file(scene), file(scene)
    submit = call(fn, mine)
    client.says(submit, [b""])
    if end == "completed":
        worker.done()
    elif end == "failed":
        worker.fails()
    assert isinstance(client.ask(DropBlobs(job=submit.job, blobs=[mine.name, other.name, "../x"])), Ok)
    scene.spin()
    assert mine.exists() is (end != "completed"), "it may be tried again by hand"
    assert other.exists(), "it is not this job's"
    findings = [one for one in verify(scene.path, scene.home / "blobs") if one.check == "blobs"]
    assert findings == []


def test_the_oldest_awaited_values_go_when_they_are_too_many_bytes(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_AWAITED_BYTES", 2 * len(LARGE))
    fn, paths = client.declare(workers_max=1), [file(scene) for _ in range(4)]
    spawned = call(fn, paths[0])
    spawned.wait = False
    for submit in (spawned, *(call(fn, path) for path in paths[1:])):
        client.says(submit, [b""])
        worker.done()
    scene.advance(61)
    assert [path.exists() for path in paths] == [True, False, True, True], "a spawned job's stay"


def test_what_is_told_of_a_job_counts_its_files(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn, argument, result = client.declare(workers_max=1), file(scene), file(scene)
    submit = call(fn, argument)
    client.says(submit, [b""])
    worker.done(blobs=[(0, result.name, 1000)])
    (row,) = client.ask(Query(what="job", filter={"job": submit.job})).rows
    assert len(LARGE) <= row["args_size"] < len(LARGE) + 20
    assert 1000 <= row["out_size"] < 1100
