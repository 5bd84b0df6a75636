"""What jobs yield: on record, then to its readers in order, each item once, at their pace."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runpod_flash.engine.store import opening
from runpod_flash.engine.store.sqlite import open_store
from runpod_flash.engine.streams import ABANDONED_S
from runpod_flash.model.job import JobState
from runpod_flash.wire.kinds import STREAM_ITEMS, WINDOW
from runpod_flash.wire.messages import Attach, Cancel, Chunk, Exited, Outcome, Position, Progress, Taken
from tests.engine.scene import ClientSide, Scene, WorkerSide


def items(client: ClientSide, sid: int) -> list[int]:
    """The numbers of the items that came on a stream."""
    return [said.head.n for said in client.wire.said if said.sid == sid and type(said.head) is Chunk]


def live(client: ClientSide) -> tuple[str, int]:
    """A job that its caller reads: its id, and the stream."""
    job = client.submit(client.declare(workers_max=1, is_async=True), stream=Position())
    return job, client._sid


def kept(client: ClientSide) -> str:
    """A job that nobody waits for and that yields."""
    return client.submit(client.declare(workers_max=1, is_async=True), wait=False, stream=Position())


def follow(client: ClientSide, job: str, **position: int) -> int:
    """Another reader; its stream."""
    return client.says(Attach(job=job, stream=Position(**position)))


def test_a_live_item_goes_when_its_reader_is_done_with_it(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job, sid = live(client)
    assert worker.running is not None
    assert worker.running.stream == "live"
    worker.yields(0, STREAM_ITEMS)
    assert items(client, sid) == list(range(STREAM_ITEMS))
    assert worker.taken() == 0
    client.wire.says(Taken(upto=4), sid=sid)
    scene.spin()
    assert worker.taken() == 4
    assert [row["n"] for row in scene.rows("SELECT n FROM chunks WHERE job = ?", job)] == list(range(4, STREAM_ITEMS))
    worker.done()
    assert client.answer(sid).status == "COMPLETED"


def test_a_reader_of_a_kept_stream_gets_it_from_the_start_and_the_outcome_last(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = kept(client)
    worker.yields(0, 40)
    assert worker.taken() == 40, "it does not wait for readers"
    sid = follow(client, job)
    assert items(client, sid) == list(range(STREAM_ITEMS))
    worker.done(chunks=40)
    assert not [said for said in client.wire.said if said.sid == sid and type(said.head) is Outcome]
    for upto in (10, 30):
        client.wire.says(Taken(upto=upto), sid=sid)
        scene.spin()
    assert items(client, sid) == list(range(40))
    assert client.answer(sid).chunks == 40
    late = follow(client, job, have=35, taken=35, attempt=1)
    assert items(client, late) == [35, 36, 37, 38, 39]
    assert client.answer(late).status == "COMPLETED"
    scene.advance(200)
    assert scene.rows("SELECT * FROM chunks") == [], "they go with their job"


def test_large_items_are_sent_a_window_at_a_time(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = kept(client)
    worker.yields(0, 8, size=WINDOW // 2)
    sid = follow(client, job)
    assert items(client, sid) == [0, 1]
    client.wire.says(Taken(upto=1), sid=sid)
    scene.spin()
    assert items(client, sid) == [0, 1, 2]


@pytest.mark.parametrize("taken", [0, 3, 7])
def test_over_the_death_of_the_engine_each_item_comes_once(
    scene: Scene, client: ClientSide, worker: WorkerSide, taken: int
) -> None:
    job, sid = live(client)
    worker.yields(0, 7)
    seen = items(client, sid)
    client.wire.says(Taken(upto=taken), sid=sid)
    scene.spin()
    scene.restart()
    scene.back()
    worker = next(iter(scene.host.workers.values())) if scene.host else worker
    worker.yields(taken, 9 - taken)  # what was not taken is sent again, and it goes on
    again = scene.client()
    fn = again.declare(workers_max=1, is_async=True)
    again.submit(fn, job=job, stream=Position(have=len(seen), taken=taken, attempt=1))
    sid = again._sid
    assert seen + items(again, sid) == list(range(9))
    again.wire.says(Taken(upto=9), sid=sid)
    scene.spin()
    assert worker.taken() == 9
    worker.done()
    assert again.answer(sid).status == "COMPLETED"


def test_what_was_read_is_not_run_again_and_what_nobody_has_read_is(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    unread = kept(client)
    worker.yields(0, 3)
    worker.fails()
    assert scene.state(unread) is JobState.DELAYED
    assert scene.rows("SELECT * FROM chunks") == []
    scene.advance(1)
    worker.yields(0, 2)
    sid = follow(client, unread)
    assert items(client, sid) == [0, 1]
    worker.fails()
    assert client.answer(sid).status == "FAILED"
    job, sid = live(client)
    worker.yields(0, 3)
    worker.die()
    outcome = client.answer(sid)
    assert (outcome.status, outcome.error.type) == ("FAILED", "WorkerLost")
    assert scene.attempts(job) == ["lost"]


def test_a_reader_that_comes_back_to_another_attempt_is_told(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = kept(client)
    worker.yields(0, 3)
    assert scene.host is not None
    scene.kill()
    scene.host.workers.clear()
    scene.host.kept.append(Exited(worker=worker.id, signal=9, current=worker.current))
    scene.start()
    scene.back()
    client = scene.client()
    sid = follow(client, job, have=3, attempt=1)
    assert client.answer(sid).code == "stream_restarted"


def test_a_live_job_whose_reader_does_not_come_back_is_cancelled(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job, _sid = live(client)
    worker.yields(0, 3)
    client.leave()
    scene.advance(ABANDONED_S - 1)
    assert worker.wire.all(Cancel) == []
    scene.advance(2)
    assert [head.job for head in worker.wire.all(Cancel)] == [job]
    worker.fails("cancelled")
    assert scene.state(job) is JobState.CANCELLED


def test_others_cannot_read_a_live_stream_nor_one_of_a_job_that_yields_nothing(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job, _sid = live(client)
    assert "spawn the function instead" in client.answer(follow(client, job)).fix
    worker.done()
    plain = client.submit(client.declare(workers_max=1, is_async=True))
    assert "gives no stream" in client.answer(follow(client, plain)).what


def test_what_a_job_said_last_is_kept_with_its_end(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1))
    for value in (1, {"epoch": 2}):
        worker.wire.says(Progress(job=job, value=value))
    worker.wire.says(Progress(job="another", value=3))
    scene.spin()
    assert client.ask(Attach(job=job, wait=False)).progress == {"epoch": 2}
    worker.done()
    scene.restart()
    assert scene.client().query("job", job=job)[0]["progress"] == {"epoch": 2}


def test_a_store_of_the_first_version_is_brought_up_to_date_and_a_copy_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    first = Path(opening.__file__).with_name("sql") / "0001.sql"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{first.read_text()}\nPRAGMA user_version=1;")
    store = open_store(path, durability="process")
    assert store.chunks("none", 0, 1) == []
    store.close()
    with closing(sqlite3.connect(f"{path}.before-{opening.VERSION}")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
