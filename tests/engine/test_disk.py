"""A store that cannot be opened, read or written: said clearly, nothing acknowledged lost, and it goes on."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from runpod_flash.engine.clock import Clock
from runpod_flash.engine.store import opening
from runpod_flash.engine.store.rows import Attempt, NewJob
from runpod_flash.engine.store.sqlite import open_store
from runpod_flash.engine.store.statements import load_queries
from runpod_flash.errors import StoreError
from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Accepted, Attach, Error
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def fill(scene: Scene) -> None:
    """No page can be added to the store any more: SQLite itself says that the disk is full."""
    db = scene.store._db  # type: ignore[attr-defined]
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count={pages}")
    db.execute("PRAGMA cache_spill=ON")


def free(scene: Scene) -> None:
    """There is room again."""
    scene.store._db.execute("PRAGMA max_page_count=1073741823")  # type: ignore[attr-defined]


LARGE = b"x" * 200_000


def test_on_a_full_disk_a_call_is_refused_and_says_what_to_do(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    fill(scene)
    refused = client.submit(fn, LARGE, wait=False)
    (error,) = client.wire.all(Error)
    assert (error.code, error.retry_after_ms) == ("store_unavailable", 1000)
    assert "disk is full" in error.what
    assert "free some space" in error.fix
    assert not client.wire.all(Accepted)
    assert not scene.rows("SELECT id FROM jobs WHERE id = ?", refused)


def test_nothing_acknowledged_is_lost_and_it_goes_on_when_there_is_room(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    runs, waits = client.submit(fn, wait=False), client.submit(fn, wait=False)
    fill(scene)
    client.submit(fn, LARGE)
    assert client.wire.closed  # everybody comes back to an engine that has read its store again
    assert host.wire.closed
    scene.advance(1)
    scene.back()
    assert worker.jobs == [runs]
    worker.done(LARGE)  # cannot be recorded, so it is not acknowledged
    assert worker.held
    free(scene)
    scene.advance(1)
    scene.back()
    scene.advance(0.1)
    assert scene.state(runs) is JobState.COMPLETED
    assert worker.jobs == [waits]
    worker.done()
    late = scene.client()
    assert late.ask(Attach(job=waits)).status == "COMPLETED"
    assert not scene.asked_to_stop


def test_a_host_that_comes_back_at_once_is_asked_to_wait_and_not_to_leave(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fill(scene)
    client.submit(client.declare(workers_max=1), LARGE)
    host.join()
    assert host.refused is not None
    assert host.refused.handover
    free(scene)
    scene.advance(1)
    scene.back()
    assert host.refused is None


def test_a_disk_that_stays_full_does_not_keep_the_engine_busy(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), wait=False)
    fill(scene)
    taken_in = 0
    worker.done(LARGE)
    for _ in range(200):  # the host tries every 50 ms
        scene.advance(0.05)
        if host.wire.closed or host.refused:
            host.join()
            scene.spin()
            taken_in += host.refused is None
    assert taken_in <= 25
    assert scene.state(job) is JobState.RUNNING
    assert host.refused is None or host.refused.handover
    free(scene)
    scene.advance(1)
    scene.back()
    assert scene.state(job) is JobState.COMPLETED
    assert scene.executions[job] == 1


def test_a_full_disk_with_a_dead_host_does_not_end_the_engine(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), wait=False)
    fill(scene)
    scene.kill_host()
    scene.advance(5)
    assert not scene.asked_to_stop
    free(scene)
    scene.advance(5)
    host.successor()
    scene.advance(1)
    assert scene.attempts(job) == ["lost"]


def test_a_disk_that_turned_read_only_is_the_same(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    kept = client.submit(fn, wait=False)
    scene.store._db.execute("PRAGMA query_only=ON")  # type: ignore[attr-defined]
    client.submit(fn)
    (error,) = client.wire.all(Error)
    assert error.code == "store_unavailable"
    assert "read-only" in error.why
    scene.store._db.execute("PRAGMA query_only=OFF")  # type: ignore[attr-defined]
    scene.advance(1)
    scene.back()
    worker.done()
    assert scene.state(kept) is JobState.COMPLETED


# ── opening ───────────────────────────────────────────────────────────────────────────────────────


def test_a_store_is_made_from_nothing_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    first = open_store(path, durability="process")
    first.close()
    second = open_store(path, durability="process")
    assert (first.engine_id, first.secret) == (second.engine_id, second.secret)
    assert (first.start_no, second.start_no) == (1, 2)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (opening.VERSION,)
    second.close()


def test_a_newer_store_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path, durability="process").close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError) as error:
        open_store(path, durability="process")
    assert "version 99" in str(error.value)
    assert "pip install -U" in str(error.value.fix)


@pytest.mark.parametrize("damage", ["not a database at all, " * 400, "page"])
def test_a_damaged_store_is_refused_with_the_mend(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path, durability="process").close()
    if damage == "page":
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(40_000))
    else:
        path.write_text(damage)
    with pytest.raises(StoreError) as error:
        open_store(path, durability="process")
    assert "is damaged" in str(error.value)
    assert f"mv {path} {path}.damaged" in str(error.value.fix)


def test_a_store_that_cannot_be_made_says_where_else_it_could_be(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "store.sqlite"
    with pytest.raises(StoreError) as error:
        open_store(path, durability="process")
    assert "FLASH_HOME" in str(error.value.fix)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody may write there, not even root."""
    if shutil.which("chattr") is None or os.system(f"chattr +i {path} 2>/dev/null") != 0:
        pytest.skip("this file system cannot make a file immutable")
    try:
        yield
    finally:
        os.system(f"chattr -i {path}")


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    open_store(path, durability="process").close()
    with read_only(path), pytest.raises(StoreError) as error:
        open_store(path, durability="process")
    assert "read-only" in str(error.value.why)


# ── the file itself ───────────────────────────────────────────────────────────────────────────────


HOT = ("claim", "claim_ahead", "finish", "back", "due", "expired", "next_times", "oldest", "waiting_ids", "job")


@pytest.mark.parametrize("name", HOT)
def test_every_hot_statement_uses_an_index(scene: Scene, name: str) -> None:
    statement = load_queries()[name]
    numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    values = [1] * max(numbers, default=statement.count("?"))
    with closing(sqlite3.connect(scene.path)) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not [line for line in plan if line.startswith("SCAN jobs") and "INDEX" not in line]


def test_the_log_shrinks_again_after_a_burst(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite", durability="process")
    for turn in range(40):
        store.begin()
        for number in range(20):
            store.put(_job(f"{turn}.{number}", b"x" * 5000))
        store.commit()
    grown = store.log.size()
    store.log.shrink()
    assert grown > 4_000_000
    assert store.log.size() == 0
    store.begin()
    store.put(_job("last", b""))
    store.commit()
    assert len(store.read("SELECT id FROM jobs")) == 801
    store.close()


def test_a_reader_in_its_midst_holds_no_checkpoint_up(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite", durability="process")
    store.begin()
    store.put(_job("j", b"x" * 100_000))
    store.commit()
    with closing(sqlite3.connect(store.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchone()
        store.log.shrink()  # would wait for seconds, if it waited
        store.log.checkpoint()
    store.log.shrink()
    assert store.log.size() == 0
    store.close()


def test_what_was_rolled_back_never_was(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite", durability="process")
    store.begin()
    store.put(_job("j", b""))
    store.add_attempt(Attempt("j", 1, 1, "w", 0, None, 1, "failed", None))
    store.rollback()
    assert store.job("j") is None
    store.begin()
    assert store.put(_job("j", b""))
    assert not store.put(_job("j", b"other"))
    store.commit()
    row = store.job("j")
    assert row is not None
    assert row["args"] == b""
    store.close()


def test_the_wall_clock_of_a_store_never_goes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite", durability="process")
    future = 4_000_000_000_000
    store.begin()
    store.put(_job("j", b"", created_ms=future))
    store.commit()
    store.close()
    again = open_store(tmp_path / "store.sqlite", durability="process")
    assert Clock(again.last_wall_ms).wall_ms() == future
    again.close()


# ── retention ─────────────────────────────────────────────────────────────────────────────────────


def test_results_are_forgotten_after_their_time_with_all_that_belongs_to_them(
    scenes: Callable[..., Scene],
) -> None:
    scene = scenes(retention_ms=(60_000, 600_000))
    client = scene.client()
    host = scene.host_up()
    fn = client.declare(workers_max=1)
    awaited, spawned = client.submit(fn, idem="a"), client.submit(fn, wait=False)
    shared, own = "0" * 32, "1" * 32
    for blob in (shared, own):
        (scene.home / "blobs" / blob[:2]).mkdir(parents=True)
        (scene.home / "blobs" / blob[:2] / blob).write_bytes(b"large")
    scene.advance(1)
    (worker,) = host.workers.values()
    worker.fails()
    scene.advance(0.3)
    while worker.running is not None:
        blobs = [(0, shared, 5)] if worker.jobs == [spawned] else [(0, shared, 5), (1, own, 5)]
        worker.done(blobs=blobs)
    scene.advance(30)
    assert {row["id"] for row in scene.rows("SELECT id FROM jobs")} == {awaited, spawned}
    scene.advance(120)
    assert [row["id"] for row in scene.rows("SELECT id FROM jobs")] == [spawned]
    for table in ("attempts", "idempotency", "events WHERE job IS NOT NULL"):
        assert scene.rows(f"SELECT * FROM {table}") == []
    assert not (scene.home / "blobs" / "11" / own).exists()
    assert (scene.home / "blobs" / "00" / shared).exists()  # the other job still needs it
    scene.advance(600)
    assert scene.rows("SELECT * FROM jobs") == scene.rows("SELECT * FROM blobs") == []
    assert not (scene.home / "blobs" / "00" / shared).exists()


def test_a_job_tried_again_while_the_sweep_looks_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.sqlite", durability="process", retention_ms=(0, 0))
    store.begin()
    store.put(_job("j", b""))
    store.finish_waiting("j", JobState.FAILED, 2000, b"{}")
    store.commit()
    found = store.outdated(3000, 100)
    assert found == ["j"]
    store.begin()
    assert store.again("j")
    store.forget(found, 3000)
    store.commit()
    assert store.job("j") is not None
    store.close()


def _job(name: str, args: bytes, created_ms: int = 1000) -> NewJob:
    return NewJob(
        id=name, pool=1, fn=1, state=JobState.READY, priority=0, worker="", created_ms=created_ms, timeout_ms=1,
        max_retries=1, awaited=True, args=args, args_head=None, ready_ms=None, expires_ms=None,
    )  # fmt: skip
