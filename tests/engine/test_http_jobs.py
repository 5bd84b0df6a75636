"""Jobs that come over HTTP, as the queue sees them: who is told what, and when."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from runpod_flash.engine.http_jobs import Asked, Told
from runpod_flash.engine.records import Function
from runpod_flash.engine.store.sqlite import SqliteStore
from runpod_flash.errors import FlashError, StoreError
from runpod_flash.model.job import LOW_PRIORITY, JobPolicy, JobState
from tests.engine.scene import ClientSide, HostSide, Scene


class Asker:
    """Somebody who asks."""

    def __init__(self) -> None:
        self.gone: Callable[[], None] = lambda: None
        self.told: list[bytes] = []
        self.failed: list[FlashError] = []
        self.vanished = 0

    def send(self, data: bytes) -> None:
        self.told.append(data)

    def fail(self, error: FlashError) -> None:
        self.failed.append(error)

    def vanish(self) -> None:
        self.vanished += 1


def told(one: Told) -> bytes:
    return f"{one.id} {one.status}".encode()


def submit(scene: Scene, fn: Function, job: str, policy: JobPolicy | None = None, webhook: str = "") -> Asker:
    asker, jobs = Asker(), scene.engine.http_jobs
    asked = Asked(job, b'{"n":1}', policy or JobPolicy(), webhook=webhook)
    jobs.submit(fn, asked, asker, lambda: jobs.follow(job, asker, told, 10))
    scene.spin()
    return asker


@pytest.fixture
def fn(scene: Scene, client: ClientSide) -> Function:
    return scene.engine.state.functions[client.declare("f", workers_max=3)]


def test_who_waits_is_told_of_the_end_and_not_before_it_is_on_record(
    scene: Scene, host: HostSide, fn: Function
) -> None:
    asker = submit(scene, fn, "a-u1")
    scene.advance(1)
    (worker,) = host.workers.values()
    start = worker.running
    assert start is not None
    assert (start.encoding, start.want_json) == ("json", False)
    assert asker.told == []
    worker.done(b'{"n":2}', encoding="json")
    scene.spin()
    assert asker.told == [b"a-u1 COMPLETED"]
    assert scene.state("a-u1") is JobState.COMPLETED


def test_who_waits_long_enough_is_told_how_it_stands(scene: Scene, host: HostSide, fn: Function) -> None:
    asker = submit(scene, fn, "a-u1")
    scene.advance(9)
    assert asker.told == []
    scene.advance(1.2)
    assert asker.told == [b"a-u1 IN_PROGRESS"]
    next(iter(host.workers.values())).done(b"1", encoding="json")
    scene.spin()
    assert len(asker.told) == 1


def test_who_waits_while_the_engine_leaves_is_told_which_job_to_ask_the_next_one_for(
    scene: Scene, host: HostSide, fn: Function
) -> None:
    asker = submit(scene, fn, "a-u1")
    scene.advance(1)
    scene.stop(reason="handover", stop_host=False)
    assert asker.told == [b"a-u1 IN_PROGRESS"]


def test_who_goes_away_is_told_nothing_and_the_job_runs_on(scene: Scene, host: HostSide, fn: Function) -> None:
    asker = submit(scene, fn, "a-u1")
    asker.gone()
    scene.advance(1)
    next(iter(host.workers.values())).done(b"1", encoding="json")
    scene.advance(11)
    assert asker.told == []
    assert scene.state("a-u1") is JobState.COMPLETED


def test_who_waits_is_told_to_ask_again_when_the_engine_begins_anew_from_its_store(
    scene: Scene, host: HostSide, fn: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = submit(scene, fn, "a-u1")
    scene.engine.http_jobs.held.add(asker)  # as the gateway does
    scene.advance(1)
    broken = StoreError("the disk is full")

    def commit(_self: object) -> None:
        raise broken

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "commit", commit)
        next(iter(host.workers.values())).done(b"1", encoding="json")
        scene.spin()
    assert (asker.told, len(asker.failed)) == ([], 1)
    assert "ask again" in str(asker.failed[0])
    scene.advance(1)
    scene.back()
    scene.advance(0.1)
    assert scene.state("a-u1") is JobState.COMPLETED


def test_jobs_of_low_priority_start_one_worker_where_there_is_none_and_no_other(
    scene: Scene, host: HostSide, fn: Function
) -> None:
    for n in range(6):
        submit(scene, fn, f"low-{n}", JobPolicy(priority=LOW_PRIORITY))
    scene.advance(60)
    assert len(host.workers) == 1
    for n in range(2):
        submit(scene, fn, f"usual-{n}")
    scene.advance(60)
    assert len(host.workers) == 3
    running = {worker.running.job for worker in host.workers.values() if worker.running is not None}
    assert running == {"low-0", "usual-0", "usual-1"}


def test_low_priority_is_known_again_after_a_restart(scene: Scene, host: HostSide, fn: Function) -> None:
    for n in range(6):
        submit(scene, fn, f"low-{n}", JobPolicy(priority=LOW_PRIORITY))
    scene.advance(10)
    scene.restart()
    scene.back()
    scene.advance(60)
    assert len(host.workers) == 1


def test_a_webhook_is_due_in_the_transaction_that_ends_its_job(scene: Scene, host: HostSide, fn: Function) -> None:
    submit(scene, fn, "a-u1", webhook="http://127.0.0.1/x")
    scene.advance(1)
    assert scene.engine.webhooks.due() == []
    next(iter(host.workers.values())).done(b"1", encoding="json")
    scene.spin()
    scene.kill()
    scene.start()
    (due,) = scene.engine.webhooks.due()
    assert (due.job, due.url, due.tries) == ("a-u1", "http://127.0.0.1/x", 0)
    assert scene.engine.webhooks.pending == 1


def test_a_webhook_of_a_job_that_outlives_its_engine_is_due_as_well(scene: Scene, host: HostSide, fn: Function) -> None:
    submit(scene, fn, "a-u1", webhook="http://127.0.0.1/x")
    scene.advance(1)
    scene.restart()
    scene.back()
    scene.advance(1)
    next(iter(host.workers.values())).done(b"1", encoding="json")
    scene.spin()
    assert [due.job for due in scene.engine.webhooks.due()] == ["a-u1"]


def test_a_webhook_that_was_given_up_is_told_on_the_record_of_its_job(
    scene: Scene, host: HostSide, fn: Function
) -> None:
    submit(scene, fn, "a-u1", webhook="http://127.0.0.1/x")
    scene.advance(1)
    next(iter(host.workers.values())).done(b"1", encoding="json")
    scene.spin()
    (due,) = scene.engine.webhooks.due()
    scene.engine.webhooks.tried(due, None, "nobody listens")
    scene.spin()
    (event,) = scene.rows("SELECT data FROM events WHERE kind = 'webhook_given_up' AND job = 'a-u1'")
    assert json.loads(event["data"])["error"] == "nobody listens"
    assert (scene.engine.webhooks.due(), scene.engine.webhooks.pending) == ([], 0)
