from __future__ import annotations

import json

import pytest

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Ack, Cancel, CancelEnv, EnsureEnv, Ok, Start, Stop
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide, short

# ── delay and ttl ─────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_job_starts_when_its_time_comes(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1), delay_ms=5000)
    assert scene.state(job) is JobState.DELAYED
    scene.advance(4.9)
    assert worker.running is None
    scene.advance(0.2)
    assert worker.jobs == [job]


def test_a_timer_that_is_set_does_not_hide_an_earlier_one(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn, delay_ms=3_600_000)
    soon = client.submit(fn, delay_ms=200)
    scene.advance(0.3)
    assert worker.jobs == [soon]


def test_timers_are_set_again_one_after_the_other(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    jobs = [client.submit(fn, delay_ms=delay) for delay in (9000, 3000, 6000)]
    order = []
    for _ in range(3):
        scene.advance(3.1)
        order += worker.jobs
        worker.done()
    assert order == [jobs[1], jobs[2], jobs[0]]


def test_more_delayed_jobs_than_one_slice_all_become_ready(scene: Scene, client: ClientSide) -> None:
    fn = client.declare()
    for _ in range(450):
        client.submit(fn, delay_ms=1000, wait=False)
    scene.advance(1.5)
    assert scene.rows("SELECT count(*) AS n FROM jobs WHERE state = 0") == [{"n": 450}]


def test_a_job_that_waits_longer_than_its_ttl_expires(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn)
    job = client.submit(fn, ttl_ms=2000)
    scene.advance(1.9)
    assert not client.outcomes(job)
    scene.advance(0.2)
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("TIMED_OUT", 0)
    assert outcome.error is not None
    assert outcome.error.message == "ttl expired: it still waited for a worker 2.0 s after it was submitted"


def test_a_delayed_job_expires_as_well(scene: Scene, client: ClientSide) -> None:
    job = client.submit(client.declare(), ttl_ms=1000, delay_ms=60_000)
    scene.advance(1.1)
    assert client.outcome(job).status == "TIMED_OUT"


def test_a_job_that_waits_for_its_retry_expires_as_well(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1), ttl_ms=1000)
    scene.advance(0.95)
    worker.fails()
    scene.advance(0.1)
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("TIMED_OUT", 1)
    assert outcome.error is not None
    assert "it still waited to be tried again 1.0 s after" in outcome.error.message


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_runs_when_its_ttl_is_over_is_stopped_and_has_timed_out(
    scene: Scene, client: ClientSide, worker: WorkerSide, restarted: bool
) -> None:
    fn = client.declare("g", workers_max=1, is_async=True)
    job = client.submit(fn, ttl_ms=1000, max_retries=5, wait=False)
    scene.advance(0.9)
    assert not worker.wire.all(Cancel)
    scene.advance(0.2)
    assert [one.job for one in worker.wire.all(Cancel)] == [job]
    assert scene.state(job) is JobState.RUNNING, "it has not ended before its worker says so"
    if restarted:
        scene.restart()
        scene.back()
    worker.fails("user")
    assert scene.state(job) is JobState.TIMED_OUT
    assert scene.attempts(job) == ["timeout"]
    error = json.loads(scene.job(job)["error"])
    assert (error["kind"], error["message"]) == (
        "expired",
        "ttl expired: it had not ended 1.1 s after it was submitted",
    )


def test_a_plain_function_that_runs_when_its_ttl_is_over_ends_with_its_worker(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), ttl_ms=1000)
    scene.advance(1.1)
    assert [stop.worker for stop in host.wire.all(Stop)] == [worker.id]
    assert client.outcome(job).status == "TIMED_OUT"


def test_a_job_that_was_cancelled_before_its_ttl_is_over_stays_cancelled(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True), ttl_ms=1000)
    client.ask(Cancel(job=job))
    scene.advance(1.1)
    worker.fails("cancelled")
    assert client.outcome(job).status == "CANCELLED"


def test_a_job_that_came_back_unstarted_still_expires(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), ttl_ms=1000)
    scene.executions.clear()
    worker.current = None
    host.launches = "never"
    worker.die()
    assert scene.state(job) is JobState.READY
    scene.advance(1.1)
    assert client.outcome(job).status == "TIMED_OUT"


# ── cancel ────────────────────────────────────────────────────────────────────────────────────────


def test_cancelling_a_job_that_waits_ends_it_at_once(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn)
    waits, delayed = client.submit(fn), client.submit(fn, delay_ms=9999)
    for job in (waits, delayed):
        assert client.ask(Cancel(job=job, cause="changed my mind")) == Ok()
        outcome = client.outcome(job)
        assert (outcome.status, outcome.attempts) == ("CANCELLED", 0)
        assert outcome.error is not None
        assert outcome.error.message == "cancelled: changed my mind"
    scene.advance(20)
    assert scene.executions[waits] == scene.executions[delayed] == 0


def test_cancelling_a_job_that_was_sent_ahead_takes_it_back(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    front, behind = client.submit(fn), client.submit(fn)
    client.ask(Cancel(job=behind))
    assert client.outcome(behind).status == "CANCELLED"
    assert worker.jobs == [front]
    assert not host.wire.all(Stop)
    assert scene.executions[behind] == 0


def test_cancelling_a_plain_function_ends_its_worker(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=5)
    client.ask(Cancel(job=job))
    assert [(stop.worker, stop.why, stop.grace_ms) for stop in host.wire.all(Stop)] == [(worker.id, "cancel", 0)]
    assert client.outcome(job).status == "CANCELLED"
    assert scene.attempts(job) == ["cancelled"]


def test_cancelling_an_async_function_asks_it_first(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True), max_retries=5)
    client.ask(Cancel(job=job))
    assert [one.job for one in worker.wire.all(Cancel)] == [job]
    worker.fails("cancelled")
    assert client.outcome(job).status == "CANCELLED"
    assert not host.wire.all(Stop)


def test_an_async_function_that_does_not_listen_is_ended_after_the_grace(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True))
    client.ask(Cancel(job=job))
    scene.advance(4.9)
    assert not host.wire.all(Stop)
    scene.advance(0.2)
    assert host.wire.all(Stop)
    assert client.outcome(job).status == "CANCELLED"


def test_a_result_that_was_faster_than_the_cancellation_stays(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True))
    client.ask(Cancel(job=job))
    worker.done()
    assert client.outcome(job).status == "COMPLETED"
    scene.advance(10)


def test_a_cancelled_job_that_raises_is_cancelled_and_not_tried_again(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True), max_retries=5)
    client.ask(Cancel(job=job))
    worker.fails("user")
    assert client.outcome(job).status == "CANCELLED"


def test_a_job_cancelled_while_its_worker_is_away_is_cancelled_when_it_comes_back(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True))
    worker.wire.close()
    scene.spin()
    client.ask(Cancel(job=job))
    assert not client.outcomes(job)
    worker.connect()
    scene.spin()
    assert [one.job for one in worker.wire.all(Cancel)] == [job]
    worker.fails("cancelled")
    assert client.outcome(job).status == "CANCELLED"


def test_a_stop_that_a_host_did_not_hear_is_said_again(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    worker.ready_by_itself = False
    host.wire.close()
    scene.spin()
    client.ask(Cancel(job=job))
    host.join()
    scene.advance(1)
    assert client.outcome(job).status == "CANCELLED"
    assert worker.id not in host.workers


def test_a_cancellation_survives_the_engine(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare("g", workers_max=1, is_async=True), wait=False)
    client.ask(Cancel(job=job))
    scene.restart()
    scene.back()
    assert [one.job for one in worker.wire.all(Cancel)] == [job]
    worker.fails("user")
    assert scene.state(job) is JobState.CANCELLED


def test_a_call_in_front_is_not_ended_for_one_behind_it_that_was_cancelled(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    client.submit(fn)
    behind = client.submit(fn)
    worker.deafen()
    client.ask(Cancel(job=behind))
    scene.advance(20)
    assert not host.wire.all(Stop)


# ── environments that nobody waits for ────────────────────────────────────────────────────────────


def test_a_build_that_nobody_waits_for_any_more_is_cancelled_and_asked_for_again(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    host.builds = "never"
    fn = client.declare()
    job = client.submit(fn)
    scene.advance(0.1)
    assert len(host.wire.all(EnsureEnv)) == 1
    client.ask(Cancel(job=job))
    assert len(host.wire.all(CancelEnv)) == 1
    client.submit(fn)
    scene.advance(0.1)
    assert len(host.wire.all(EnsureEnv)) == 2


def test_a_build_whose_host_died_is_asked_of_the_next_one(scene: Scene, client: ClientSide, host: HostSide) -> None:
    host.builds = "never"
    client.submit(client.declare())
    scene.advance(0.1)
    scene.kill_host()
    heir = host.successor()
    scene.advance(1)
    (worker,) = heir.workers.values()
    assert worker.wire.all(Start)
    assert not worker.wire.all(Ack)
