"""The engine ends and another takes over: what was acknowledged is there, and what ran is reconciled."""

from __future__ import annotations

import os
from collections.abc import Callable

from runpod_flash.model.job import JobPolicy, JobState
from runpod_flash.wire.messages import Ack, Attach, Cancel, Exited, Goodbye, Ready, Start, Stop, Submit
from tests.engine.scene import NOBODY, ClientSide, HostSide, Scene, WorkerSide, short


def test_an_acknowledged_job_survives_kill_9_of_the_engine(scene: Scene, client: ClientSide) -> None:
    job = client.submit(client.declare(), b"keep me", wait=False)
    scene.restart()
    scene.host_up()
    scene.advance(1)
    assert scene.host is not None
    (worker,) = scene.host.workers.values()
    assert [said.parts for said in worker.wire.said if isinstance(said.head, Start)] == [(b"keep me",)]
    worker.done()
    assert scene.client().ask(Attach(job=job)).status == "COMPLETED"


def test_what_was_not_committed_was_promised_to_nobody(scene: Scene, client: ClientSide) -> None:
    fn = client.declare()
    sid = client.next_sid()
    client.wire.says(Submit(job="j1", fn=fn, policy=JobPolicy(), wait=False), [b""], sid)
    assert not [said for said in client.wire.said if said.sid == sid]  # its turn is not over
    scene.restart()
    assert not scene.rows("SELECT id FROM jobs")


def test_a_call_that_runs_while_the_engine_is_gone_hands_its_result_to_the_next(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    scene.kill()
    worker.done(b"made alone", send=False)
    scene.start()
    late = scene.client()
    late.says(Attach(job=job))
    scene.back()
    assert late.outcome(job).status == "COMPLETED"
    assert scene.executions[job] == 1
    scene.advance(0.1)
    assert not worker.held


def test_a_job_whose_worker_still_has_it_is_left_to_it(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1))
    scene.restart()
    scene.back()
    assert worker.jobs == [job]
    assert scene.state(job) is JobState.RUNNING
    (row,) = scene.client().query("workers")
    assert (row["worker"], row["pid"]) == (worker.id, os.getpid())
    worker.done()
    assert scene.state(job) is JobState.COMPLETED
    assert scene.job(job)["attempt"] == 1


def test_a_result_whose_acknowledgement_was_lost_is_acknowledged_as_stale(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    worker.done()
    scene.kill()  # the result is on record; the worker does not know
    scene.start()
    scene.back()
    scene.advance(0.1)
    assert [ack for frame in worker.wire.all(Ack) for ack in frame.acks] == [(job, 1, "stale")]
    assert not worker.held
    assert scene.state(job) is JobState.COMPLETED


def test_a_start_that_was_lost_goes_back_uncounted(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    worker.deafen()
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    assert scene.state(job) is JobState.RUNNING
    scene.restart()
    scene.back()
    scene.advance(1)
    assert worker.jobs == [job]
    assert (scene.job(job)["attempt"], scene.job(job)["epoch"]) == (1, 2)
    assert scene.attempts(job) == []


def test_what_a_worker_has_and_should_not_have_is_taken_from_it(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    worker.connect(ready=False)
    worker.wire.says(Ready(worker=worker.id, held=[("job-of-another-life", 3)]))
    scene.spin()
    assert [(one.job, one.epoch, one.cause) for one in worker.wire.all(Cancel)] == [("job-of-another-life", 3, "stale")]


def test_nothing_is_started_on_a_stream_before_ready(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    """What it would be sent then is not in the list that its READY brings, and would run a second time."""
    worker.connect(ready=False)
    job = client.submit(client.declare(workers_max=1))
    assert not worker.wire.all(Start)
    assert scene.state(job) is JobState.READY
    worker.ready()
    scene.advance(1)
    assert worker.jobs == [job]
    assert scene.job(job)["attempt"] == 1


def test_a_second_ready_changes_nothing(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1))
    before = scene.job(job)
    worker.wire.says(Ready(worker=worker.id, held=[]))
    scene.advance(1)
    assert scene.job(job) == before
    worker.done()
    assert client.outcome(job).status == "COMPLETED"


def test_after_a_restart_the_page_still_tells_what_had_begun(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    """So the order in which a worker was sent its jobs survives, whatever their priorities, within one millisecond."""
    fn = short(scene, client, worker)
    first = client.submit(fn, priority=0)
    second = client.submit(fn, priority=5)
    third = client.submit(fn, priority=1)
    assert worker.jobs == [first, second, third]
    scene.kill()
    worker.done(send=False)
    assert worker.current is not None
    assert worker.current.job == second
    scene.start()
    assert list(scene.engine.state.active) == [first, second, third]
    host.workers.clear()
    host.kept.append(Exited(worker=worker.id, signal=9, current=worker.current))
    scene.back()
    assert [scene.attempts(job) for job in (first, second, third)] == [["lost"], ["lost"], []]


def test_jobs_of_a_dead_host_wait_for_the_next_ones_report(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    scene.kill_host()
    assert scene.state(job) is JobState.RUNNING
    host.successor()
    assert scene.attempts(job) == ["lost"]
    scene.advance(1)
    assert scene.host is not None
    (second,) = scene.host.workers.values()
    second.done()
    assert client.outcome(job).attempts == 2


def test_a_worker_that_no_host_reports_is_given_up_and_what_it_had_counts(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    host.workers.clear()
    worker.wire.close()
    scene.kill_host()
    scene.host_up()
    scene.advance(1.5)
    assert scene.state(job) is JobState.RUNNING
    scene.advance(1)
    assert scene.attempts(job) == ["lost"]


def test_engine_host_and_worker_killed_together_lose_one_attempt(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    scene.provider.pid = NOBODY
    job = client.submit(client.declare(workers_max=1))
    host.die()
    scene.kill()
    scene.provider.pid = os.getpid()
    scene.start()
    scene.advance(0.5)
    scene.host_up()
    scene.advance(31)
    assert scene.attempts(job) == ["lost"]


def test_the_wrong_key_opens_nothing(scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide) -> None:
    stranger = HostSide(scene, "another key")
    stranger.join()
    assert stranger.refused is not None
    assert (stranger.refused.code, stranger.refused.handover) == ("unknown_host", False)
    worker.key = "another key"
    refused = worker.connect()
    assert refused is not None
    assert refused.code == "unknown_worker"


def test_a_host_that_is_silent_for_a_lease_is_replaced(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    host.beats = False
    hosts = len(scene.provider.keys)
    scene.advance(36)
    assert len(scene.provider.keys) == hosts + 1
    assert scene.state(job) is JobState.RUNNING
    host.successor()
    scene.advance(0.3)
    assert scene.attempts(job) == ["lost"]


def test_a_host_that_never_comes_up_is_not_started_in_a_tight_loop_and_its_jobs_end(
    scenes: Callable[..., Scene],
) -> None:
    scene = scenes()
    client = scene.client()
    job = client.submit(client.declare())
    for _ in range(40):
        scene.end_host()
        scene.advance(0.05)
    assert 3 <= len(scene.provider.keys) <= 5
    outcome = client.outcome(job)
    assert outcome.status == "FAILED"
    assert outcome.error is not None
    assert "host did not come up" in outcome.error.message


def test_a_host_that_cannot_be_started_is_tried_again(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    scene.provider.error = OSError("no more processes")
    client = scene.client()
    job = client.submit(client.declare())
    scene.advance(0.1)
    assert not scene.provider.keys
    scene.provider.error = None
    scene.advance(1)
    scene.host_up()
    scene.advance(1)
    assert scene.host is not None
    next(iter(scene.host.workers.values())).done()
    assert client.outcome(job).status == "COMPLETED"


# ── leaving in good order ─────────────────────────────────────────────────────────────────────────


def test_a_stop_waits_for_what_runs_and_starts_nothing_new(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    runs, waits = client.submit(fn), client.submit(fn)
    leaving = scene.loop.create_task(scene.engine.stop(reason="stop", stop_host=True, grace_s=60))
    scene.advance(5)
    assert not leaving.done()
    worker.done()
    scene.advance(0.1)
    assert leaving.done()
    assert client.outcome(runs).status == "COMPLETED"
    assert [goodbye.reason for goodbye in client.wire.all(Goodbye)] == ["stop"]
    assert host.wire.all(Goodbye)[0].stop_host
    assert client.wire.said[-1].head == client.wire.all(Goodbye)[0]
    assert scene.state(waits) is JobState.READY


def test_what_still_runs_at_the_end_of_the_grace_goes_back_without_a_loss(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    job = client.submit(fn)
    scene.stop(grace_s=2)
    assert scene.state(job) is JobState.READY
    assert scene.attempts(job) == ["stopped"]
    assert (scene.job(job)["failures"], scene.job(job)["losses"]) == (0, 0)


def test_one_start_at_most_also_when_the_engine_is_stopped(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    scene.stop()
    assert client.outcome(job).status == "FAILED"
    assert scene.attempts(job) == ["stopped"]


def test_a_handover_leaves_workers_and_jobs_to_the_next_engine(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1))
    scene.stop(reason="handover", stop_host=False)
    assert not host.wire.all(Stop)
    assert not host.wire.all(Goodbye)[0].stop_host
    scene.restart()
    scene.back()
    worker.done()
    assert scene.state(job) is JobState.COMPLETED
    assert scene.attempts(job) == []


def test_a_stop_can_be_cancelled_and_asked_for_again(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1))
    patient = scene.loop.create_task(scene.engine.stop(reason="stop", stop_host=True, grace_s=1e9))
    scene.advance(1)
    patient.cancel()
    scene.spin()
    scene.stop(grace_s=0)
    assert scene.attempts(job) == ["stopped"]


def test_an_engine_with_nothing_to_do_says_since_when(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1))
    client.leave()
    assert scene.engine.idle_since() is None
    worker.done()
    scene.advance(5)
    since = scene.engine.idle_since()
    assert since is not None
    assert since <= scene.time.now - 5
    assert scene.state(job) is JobState.COMPLETED
    other = scene.client()
    assert scene.engine.idle_since() is None
    other.leave()
    assert scene.engine.idle_since() == scene.time.now
