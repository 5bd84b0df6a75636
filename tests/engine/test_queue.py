from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runpod_flash.engine import queue
from runpod_flash.engine.store.sqlite import SqliteStore
from runpod_flash.model.job import JobPolicy, JobState, retry_delay_ms
from runpod_flash.wire.messages import Accepted, Ack, Attach, Cancel, Done, Error, Outcome, Retry, Start, State, Submit
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def test_a_call_comes_back_with_its_value(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(), b"two")
    (start,) = [said for said in worker.wire.said if isinstance(said.head, Start)]
    assert start.parts == (b"two",)
    assert (start.head.job, start.head.attempt, start.head.epoch) == (job, 1, 1)
    worker.done(b"four")
    (said,) = [said for said in client.wire.said if isinstance(said.head, Outcome)]
    assert (said.head.status, said.head.attempts, said.parts) == ("COMPLETED", 1, (b"four",))
    assert scene.state(job) is JobState.COMPLETED


def test_with_a_worker_free_a_call_is_put_and_claimed_by_one_insert(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[object] = []
    monkeypatch.setattr(SqliteStore, "claim", lambda *args: claims.append(args))
    job = client.submit(client.declare())
    assert worker.jobs == [job]
    assert scene.state(job) is JobState.RUNNING
    assert claims == []
    assert scene.rows("SELECT * FROM changes WHERE job = ?", job) == []
    monkeypatch.undo()


def test_jobs_start_by_priority_and_then_by_age(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn)
    older, newer = client.submit(fn), client.submit(fn)
    urgent = client.submit(fn, priority=5)
    late = client.submit(fn, priority=-1)
    order = []
    for _ in range(5):
        order.append(worker.jobs[0])
        worker.done()
    assert order[1:] == [urgent, older, newer, late]


def test_an_acknowledgement_rides_on_the_next_start_or_follows_alone(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    first, second = client.submit(fn), client.submit(fn)
    worker.done()
    (_, start) = worker.wire.take(Start)
    assert start.acks == [(first, 1, "recorded")]
    worker.done()
    assert worker.held
    scene.advance(0.06)
    assert [ack.acks for ack in worker.wire.take(Ack)] == [[(second, 1, "recorded")]]
    assert not worker.held


def test_a_result_of_an_older_epoch_changes_nothing_and_is_acknowledged_as_stale(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    job = client.submit(fn)
    start = worker.wire.all(Start)[-1]
    worker.fails()
    scene.advance(0.3)
    assert worker.jobs == [job]
    before = scene.job(job)
    assert before["epoch"] == 2
    worker.wire.says(Done(job=start.job, epoch=start.epoch, ok=True, values=1), (b"late",))
    scene.spin()
    assert scene.job(job) == before
    worker.done(b"right")
    scene.advance(0.06)
    assert worker.wire.all(Ack)[-1].acks == [(job, 1, "stale"), (job, 2, "recorded")]
    assert client.outcome(job).attempts == 2


def test_an_exception_is_tried_again_after_a_pause_and_then_final(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), max_retries=1)
    worker.fails()
    assert scene.state(job) is JobState.DELAYED
    pause = scene.job(job)["ready_ms"] - scene.time.wall_ms()
    assert retry_delay_ms(1, 0.0) <= pause <= retry_delay_ms(1, 1.0)
    scene.advance(pause / 1000 - 0.01)
    assert worker.running is None
    scene.advance(0.02)
    assert worker.jobs == [job]
    worker.fails()
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("FAILED", 2)
    assert outcome.error is not None
    assert outcome.error.message == "bad input"
    assert scene.attempts(job) == ["failed", "failed"]


@pytest.mark.parametrize("kind", ["bind", "load", "encode", "env"])
def test_what_would_fail_the_same_way_is_not_tried_again(
    scene: Scene, client: ClientSide, worker: WorkerSide, kind: str
) -> None:
    job = client.submit(client.declare(), max_retries=5)
    worker.fails(kind)
    assert client.outcome(job).status == "FAILED"


def test_a_timeout_that_the_worker_reports_ends_timed_out(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(), max_retries=0)
    worker.fails("timeout")
    assert client.outcome(job).status == "TIMED_OUT"
    assert scene.attempts(job) == ["timeout"]


def test_without_retries_a_failure_is_final(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(), max_retries=0)
    worker.fails()
    assert client.outcome(job).status == "FAILED"


def test_a_job_sent_twice_is_one_job_and_both_are_told(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    job = client.submit(fn)
    other = scene.client()
    other.submit(other.declare(workers_max=1), job=job)
    assert worker.jobs == [job]
    worker.done()
    assert client.outcome(job).status == other.outcome(job).status == "COMPLETED"
    assert scene.executions[job] == 1


def test_a_job_sent_again_after_its_end_is_answered_from_the_record(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = client.declare()
    job = client.submit(fn)
    worker.done(b"value")
    again = scene.client()
    again.submit(again.declare(), job=job)
    assert [said.parts for said in again.wire.said if isinstance(said.head, Outcome)] == [(b"value",)]
    assert again.outcome(job) == client.outcome(job)


def test_a_spawned_job_is_accepted_and_says_when_it_was_there_before(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = client.declare()
    job = client.submit(fn, wait=False)
    client.submit(fn, wait=False, job=job)
    assert client.wire.all(Accepted) == [Accepted(job=job), Accepted(job=job, existing=True)]


def test_calls_with_one_idempotency_key_are_one_job(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    first = client.submit(fn, idem="order-7")
    client.submit(fn, idem="order-7", wait=False)
    assert client.wire.all(Accepted) == [Accepted(job=first, existing=True)]
    client.submit(fn, idem="order-7")
    worker.done()
    assert len(client.outcomes(first)) == 2
    assert len(scene.rows("SELECT id FROM jobs")) == 2  # the fixture's own, and this one


def test_an_idempotency_key_belongs_to_its_endpoint(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    here, there = client.declare(), client.declare(endpoint="other")
    assert client.submit(here, idem="k") != client.submit(there, idem="k")
    assert len(scene.rows("SELECT * FROM idempotency")) == 2


def test_a_full_queue_refuses_new_jobs_but_knows_those_it_has(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_WAITING", 2)
    fn = client.declare(workers_max=1)
    client.submit(fn)
    waiting = [client.submit(fn, wait=False), client.submit(fn, wait=False)]
    refused = client.submit(fn, idem="key")
    (error,) = client.wire.take(Error)
    assert (error.code, error.retry_after_ms) == ("queue_full", 1000)
    assert "2 waiting jobs" in error.what
    client.wire.take(Accepted)
    client.submit(fn, wait=False, job=waiting[1])
    assert client.wire.all(Accepted) == [Accepted(job=waiting[1], existing=True)]
    worker.done()
    # The key of a call that was refused is free for the next one.
    accepted = client.submit(fn, idem="key", wait=False)
    assert accepted != refused
    assert client.wire.all(Accepted)[-1] == Accepted(job=accepted)


def test_arguments_count_against_the_limit_only_while_they_wait(
    scene: Scene, client: ClientSide, worker: WorkerSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_WAITING_BYTES", 1000)
    fn = client.declare(workers_max=1)
    for _ in range(3):  # each is tried twice, and so enters the queue twice
        job = client.submit(fn, b"x" * 900)
        client.submit(fn, b"y" * 900, job=job + "-2")
        client.submit(fn, b"z" * 900, job=job + "-3")
        if error := client.wire.take(Error):
            assert error[0].code == "queue_full"
        for _ in range(8):
            if worker.running is not None:
                worker.fails()
            scene.advance(0.5)
        scene.check()
    assert scene.engine.state.endpoints[1].args_bytes == 0


def test_policies_that_cannot_be_are_refused(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare()
    policies: list[dict[str, Any]] = [
        {"priority": 1 << 70},
        {"timeout_ms": 1 << 62},
        {"max_retries": -1},
        {"ttl_ms": 0},
    ]
    for policy in policies:
        client.submit(fn, **policy)
    client.submit(fn, job="x" * 65)
    client.submit(fn, job="ü")
    assert {error.code for error in client.wire.all(Error)} == {"config", "bad_request"}
    assert len(client.wire.all(Error)) == 6
    assert worker.running is None


def test_a_call_of_a_function_that_nobody_declared_is_refused(scene: Scene, client: ClientSide) -> None:
    client.submit(99)
    assert [error.code for error in client.wire.all(Error)] == ["unknown_function"]


def test_blob_ids_that_lead_elsewhere_are_refused(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare()
    head = Submit(job="j1", fn=fn, policy=JobPolicy(), blobs=[(0, "../../../etc/passwd", 1)])
    assert client.ask(head, [b""]).code == "bad_request"


def test_a_failed_job_can_be_tried_again_by_hand(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(), max_retries=0)
    worker.fails()
    client.wire.take(Outcome)
    assert client.ask(Retry(job=job)) == Accepted(job=job, existing=True)
    client.says(Attach(job=job))
    assert worker.jobs == [job]
    worker.done()
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("COMPLETED", 2)
    assert client.ask(Retry(job=job)).code == "not_retryable"
    assert client.ask(Retry(job="nowhere")).code == "no_job"


def test_attaching_follows_a_job_that_runs_and_answers_for_one_that_ended(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), wait=False)
    assert client.ask(Attach(job=job, wait=False)) == State(job=job, status="IN_PROGRESS", attempt=1, worker=worker.id)
    client.says(Attach(job=job))
    assert not client.outcomes(job)
    worker.done()
    assert client.outcome(job).status == "COMPLETED"
    late = scene.client()
    assert late.ask(Attach(job=job)).status == "COMPLETED"
    assert late.ask(Attach(job=job, wait=False)).status == "COMPLETED"
    assert late.ask(Attach(job="nowhere")).code == "no_job"


def test_who_has_left_is_told_nothing_and_its_job_runs_on(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare())
    client.leave()
    worker.done()
    assert scene.state(job) is JobState.COMPLETED
    assert not client.outcomes(job)


def test_cancelling_a_job_that_has_ended_says_so(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare())
    worker.done()
    assert client.ask(Cancel(job=job)).code == "already_ended"
    assert client.ask(Cancel(job="nowhere")).code == "no_job"


@settings(max_examples=30, deadline=None)
@given(priorities=st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_whatever_the_priorities_the_queue_is_stable(
    tmp_path_factory: pytest.TempPathFactory, priorities: list[int]
) -> None:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    client = scene.client()
    fn = client.declare(workers_max=1)
    jobs = [client.submit(fn, priority=priority) for priority in priorities]
    host = scene.host_up()
    scene.advance(1)
    (worker,) = host.workers.values()
    order = []
    while worker.running is not None:
        order.append(worker.done())
    assert order == sorted(jobs, key=lambda job: -priorities[jobs.index(job)])
    scene.close()
