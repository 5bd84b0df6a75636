from __future__ import annotations

from collections.abc import Callable

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import (
    Attach,
    Cancel,
    Current,
    Def,
    EnsureEnv,
    Error,
    Exited,
    FunctionSpec,
    Launched,
    Ok,
    PutDef,
    Retry,
    Start,
    Stop,
)
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide, short


def test_a_worker_that_dies_costs_an_attempt_and_no_retry(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=1)
    worker.die()
    scene.advance(1)
    (second,) = host.workers.values()
    assert second.jobs == [job]
    second.done()
    assert (client.outcome(job).status, client.outcome(job).attempts) == ("COMPLETED", 2)
    assert scene.attempts(job) == ["lost"]
    assert scene.job(job)["failures"] == 0


def test_the_third_loss_is_the_last_and_the_error_names_all_three(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=9)
    worker.die(signal=9)
    scene.advance(1)
    next(iter(host.workers.values())).die(code=7)
    scene.advance(1)
    next(iter(host.workers.values())).die(signal=11, last_lines=["about to crash"])
    scene.advance(1)
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("FAILED", 3)
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.kind) == ("WorkerLost", "lost")
    assert outcome.error.message.splitlines() == [
        "its worker was lost 3 times",
        "1. attempt: its worker was killed by signal 9 (SIGKILL)",
        "2. attempt: its worker exited with code 7 in the middle of the call",
        "3. attempt: its worker was killed by signal 11 (SIGSEGV)",
        "last lines of its output:",
        "  about to crash",
    ]
    assert scene.attempts(job) == ["lost", "lost", "lost"]


def test_a_job_lost_again_after_a_retry_by_hand_names_only_the_new_losses(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=1)
    for _ in range(3):
        next(iter(host.workers.values())).die(code=1)
        scene.advance(1)
    client.ask(Retry(job=job))
    client.says(Attach(job=job))
    scene.advance(1)
    for _ in range(3):
        next(iter(host.workers.values())).die(code=2)
        scene.advance(1)
    error = client.outcomes(job)[-1].error
    assert error is not None
    assert error.message.count("exited with code 2") == 3
    assert "code 1" not in error.message


def test_one_start_at_most_means_that_a_loss_is_the_end(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    worker.die()
    scene.advance(1)
    outcome = client.outcome(job)
    assert outcome.status == "FAILED"
    assert outcome.error is not None
    assert "at most one start" in outcome.error.message
    assert scene.executions[job] == 1


def test_one_start_at_most_and_not_begun_means_that_it_is_still_to_come(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    scene.executions.clear()  # it got the START, and died before user code
    worker.current = None
    worker.die()
    scene.advance(1)
    assert scene.attempts(job) == []
    (second,) = host.workers.values()
    second.done()
    assert (client.outcome(job).status, client.outcome(job).attempts) == ("COMPLETED", 1)


def test_out_of_memory_says_so(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    worker.die(why="memory", oom=True, peak_rss_kb=2_048_000, signal=9)
    error = client.outcome(job).error
    assert error is not None
    assert "ran out of memory" in error.message
    assert "2000 MB" in error.message


# ── what the status page says ─────────────────────────────────────────────────────────────────────


def test_calls_sent_ahead_go_back_uncounted_when_the_page_says_they_had_not_begun(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    front, behind, last = (client.submit(fn) for _ in range(3))
    assert worker.jobs == [front, behind, last]
    assert [scene.state(job) for job in (front, behind, last)] == [3, 2, 2]
    worker.die()
    scene.spin()
    assert scene.attempts(front) == ["lost"]
    assert scene.attempts(behind) == scene.attempts(last) == []
    assert [scene.job(job)["attempt"] for job in (front, behind, last)] == [1, 0, 0]
    assert [scene.state(job) for job in (front, behind, last)] == [0, 0, 0]


def test_everything_sent_before_the_call_on_the_page_had_begun_too(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    first, second, third = (client.submit(fn) for _ in range(3))
    worker.done(send=False)  # both results are in nobody's hands when it dies
    worker.done(send=False)
    assert worker.current is not None
    assert worker.current.job == third
    worker.die()
    scene.spin()
    assert [scene.attempts(job) for job in (first, second, third)] == [["lost"]] * 3


def test_a_call_that_was_over_counts_if_its_result_did_not_go_out(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    worker.done(send=False)
    worker.die()
    scene.advance(1)
    assert client.outcome(job).status == "FAILED"
    assert scene.attempts(job) == ["lost"]


def test_the_page_naming_a_call_whose_result_is_on_record_means_that_no_other_had_begun(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    first, second = client.submit(fn), client.submit(fn)
    page = worker.current
    worker.done(run_us=10)
    scene.executions[second] = 0  # it was about to begin
    worker.current = page
    worker.die()
    scene.spin()
    assert scene.state(first) is JobState.COMPLETED
    assert scene.attempts(second) == []


def test_a_result_that_lies_in_the_stream_comes_before_the_end_of_its_worker(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    """The host's word travels on another stream and may be read first."""
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    host.workers.clear()
    host.report(Exited(worker=worker.id, signal=9, current=worker.current))
    scene.spin()
    assert scene.state(job) is JobState.RUNNING
    assert not host.wire.all(Ok)
    worker.done()
    assert client.outcome(job).status == "COMPLETED"
    worker.wire.close()
    scene.spin()
    assert host.wire.all(Ok)
    assert scene.attempts(job) == []


def test_a_stream_that_somebody_holds_open_is_not_waited_for_long(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=0)
    host.workers.clear()
    host.report(Exited(worker=worker.id, signal=9, current=worker.current))
    scene.advance(0.3)
    assert client.outcome(job).status == "FAILED"
    assert host.wire.all(Ok)


def test_the_end_of_a_worker_that_nobody_knows_is_acknowledged(scene: Scene, host: HostSide) -> None:
    host.report(Exited(worker="w-of-long-ago", code=0))
    scene.spin()
    assert host.wire.all(Ok)


def test_the_end_of_a_worker_reported_twice_is_one_loss(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=5)
    current = worker.current
    worker.die()
    scene.spin()
    host.report(Exited(worker=worker.id, signal=9, current=current))
    scene.advance(1)
    assert scene.attempts(job) == ["lost"]


# ── deadlines ─────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_function_is_stopped_at_its_timeout(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), timeout_ms=2000, max_retries=0)
    scene.advance(1.9)
    assert not host.wire.all(Stop)
    scene.advance(0.6)
    assert [stop.why for stop in host.wire.all(Stop)] == ["timeout"]
    outcome = client.outcome(job)
    assert outcome.status == "TIMED_OUT"
    assert outcome.error is not None
    assert "timeout of 2 s" in outcome.error.message
    assert scene.attempts(job) == ["timeout"]


def test_an_async_function_has_a_grace_before_its_worker_is_stopped(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1, name="g", is_async=True)
    job = client.submit(fn, timeout_ms=2000, max_retries=0)
    scene.advance(7)
    assert not host.wire.all(Stop)
    scene.advance(1)
    assert host.wire.all(Stop)
    assert client.outcome(job).status == "TIMED_OUT"


def test_the_host_enforcing_a_deadline_is_a_timeout_too(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=1)
    worker.die(why="deadline")
    scene.advance(1)
    assert scene.attempts(job) == ["timeout"]
    assert scene.job(job)["failures"] == 1


def test_neighbours_of_a_call_that_took_too_long_go_back_uncounted(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    slow = client.submit(fn, timeout_ms=100, max_retries=0)
    behind = client.submit(fn)
    scene.advance(1.5)
    assert client.outcome(slow).status == "TIMED_OUT"
    assert scene.attempts(behind) == []


def test_a_call_that_waits_behind_another_has_its_time_counted_from_its_turn(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    client.submit(fn, timeout_ms=60_000)
    behind = client.submit(fn, timeout_ms=300)
    scene.advance(0.15)
    worker.done(run_us=10)
    assert worker.jobs == [behind]
    scene.advance(0.25)
    assert not host.wire.all(Stop)
    scene.advance(0.6)
    assert host.wire.all(Stop)


# ── sent ahead ────────────────────────────────────────────────────────────────────────────────────


def test_only_calls_of_short_functions_are_sent_ahead(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    first, second = client.submit(fn), client.submit(fn)
    assert worker.jobs == [first]
    assert scene.state(second) is JobState.READY


def test_a_job_that_may_start_once_is_never_sent_ahead_and_nothing_behind_it(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    first = client.submit(fn)
    once = client.submit(fn, max_retries=0)
    assert worker.jobs == [first]
    assert scene.state(once) is JobState.READY
    worker.done(run_us=10)
    behind = client.submit(fn)
    assert worker.jobs == [once]
    assert scene.state(behind) is JobState.READY


def test_calls_of_another_function_are_not_sent_ahead(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = short(scene, client, worker)
    front = client.submit(fn)
    client.submit(client.declare("g", workers_max=1))
    assert worker.jobs == [front]


def test_calls_sent_ahead_are_spread_over_the_workers_also_after_many_at_once(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    fn = client.declare(workers_min=2, workers_max=2)
    scene.advance(1)
    one, other = host.workers.values()
    while not 0 <= scene.engine.state.functions[fn].run_us < 15:
        client.submit(fn)
        (one if one.jobs else other).done(run_us=10)
    for _ in range(90):
        client.submit(fn)
    assert abs(len(one.jobs) - len(other.jobs)) < 10
    for worker in (one, other):
        while len(worker.jobs) > 2:
            worker.done(run_us=10)
    for _ in range(40):
        client.submit(fn)
        assert abs(len(one.jobs) - len(other.jobs)) < 10


def test_calls_behind_one_that_turns_out_long_are_taken_back_once(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = short(scene, client, worker)
    front, behind, last = (client.submit(fn) for _ in range(3))
    scene.advance(0.6)
    taken = worker.wire.all(Cancel)
    assert [(one.job, one.only_waiting) for one in taken] == [(behind, True), (last, True)]
    assert worker.jobs == [front]
    assert scene.state(behind) is scene.state(last) is JobState.READY
    assert scene.job(behind)["attempt"] == 0
    begun_at = scene.engine.state.active[front].begun_at
    assert begun_at < scene.time.now - 0.5  # what came back behind it did not begin it anew
    scene.advance(5)
    assert worker.wire.all(Cancel) == taken


# ── versions, starts, drains ──────────────────────────────────────────────────────────────────────


def test_another_version_of_a_function_gets_another_worker(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1, version="v2"))
    scene.advance(1)
    assert [stop.why for stop in host.wire.all(Stop)] == ["version"]
    (second,) = host.workers.values()
    assert second.id != worker.id
    assert second.jobs == [job]
    assert scene.job(job)["attempt"] == 1


def test_a_worker_that_suits_is_preferred_to_recycling_another(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    old = client.declare(workers_max=2)
    new = client.declare(workers_max=2, version="v2")
    first, second = client.submit(old), client.submit(new)
    scene.advance(1)
    by_job = {worker.jobs[0]: worker for worker in host.workers.values()}
    by_job[second].done()
    by_job[first].done()  # the newest idle worker has the old version
    third = client.submit(new)
    assert by_job[second].jobs == [third]
    scene.advance(1)
    assert not host.wire.all(Stop)


def test_an_idle_worker_never_stands_beside_a_queue_that_it_could_serve(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    jobs = [client.submit(fn, delay_ms=delay) for delay in (100, 200, 300)]
    for job in jobs:
        scene.advance(0.11)
        assert worker.jobs == [job]
        worker.done()


def test_workers_that_cannot_start_fail_their_jobs_after_three_tries(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    host.launches = "error"
    job = client.submit(client.declare())
    scene.advance(3)
    outcome = client.outcome(job)
    assert outcome.status == "FAILED"
    assert outcome.error is not None
    assert "cannot start (3 tries)" in outcome.error.message
    assert "the interpreter is gone" in outcome.error.message
    host.launches = "ready"
    again = client.submit(client.declare())
    scene.advance(3)
    next(iter(host.workers.values())).done()
    assert client.outcome(again).status == "COMPLETED"


def test_a_worker_that_never_gets_ready_is_given_up(scene: Scene, client: ClientSide, host: HostSide) -> None:
    host.launches = "never"
    client.submit(client.declare(workers_max=1))
    scene.advance(1)
    host.wire.says(Launched(worker=next(iter(scene.engine.state.workers)), pid=1, how="fork"))
    scene.advance(130)
    assert [stop.why for stop in host.wire.all(Stop)] == ["it does not start"]


def test_a_worker_that_drains_finishes_what_it_has_also_over_a_lost_link(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    fn = client.declare(workers_max=2)
    jobs = [client.submit(fn), client.submit(fn)]
    scene.advance(1)
    assert sorted(job for worker in host.workers.values() for job in worker.jobs) == sorted(jobs)
    client.declare(workers_max=1)  # one too many now
    scene.advance(1)
    (drained,) = [worker for worker in scene.engine.state.workers.values() if worker.state == "draining"]
    peer = host.workers[drained.id]
    peer.connect()
    scene.advance(1)
    assert not host.wire.all(Stop)
    (job,) = peer.jobs
    peer.done()
    assert client.outcome(job).status == "COMPLETED"
    assert [(stop.worker, stop.why) for stop in host.wire.all(Stop)] == [(peer.id, "surplus")]


def test_an_environment_that_cannot_be_built_fails_its_jobs_with_the_resolvers_words(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    host.builds = "failed"
    job = client.submit(client.declare(requirements=("scikit-lern",)), max_retries=5)
    scene.advance(1)
    outcome = client.outcome(job)
    assert (outcome.status, outcome.attempts) == ("FAILED", 0)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.message) == ("env", "no such package: scikit-lern")
    host.builds = "ready"
    again = client.submit(client.declare(requirements=("scikit-lern",)))
    scene.advance(1)
    next(iter(host.workers.values())).done()
    assert client.outcome(again).status == "COMPLETED"


def test_a_failing_build_that_only_a_minimum_wants_is_not_repeated_at_once(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    host.builds = "failed"
    client.declare(requirements=("scikit-lern",), workers_min=1)
    scene.advance(10)
    assert len(host.wire.all(EnsureEnv)) == 1
    scene.advance(60)
    assert 2 <= len(host.wire.all(EnsureEnv)) <= 3


def test_many_jobs_that_cannot_start_all_end(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    client = scene.client()
    fn = client.declare()
    jobs = [client.submit(fn) for _ in range(450)]
    scene.host_up(builds="failed")
    scene.advance(1)
    assert all(client.outcome(job).status == "FAILED" for job in jobs)
    assert not scene.engine.state.pools[1].failing
    scene.check()


def test_a_definition_that_comes_late_reaches_the_next_worker(scene: Scene, client: ClientSide, host: HostSide) -> None:
    function = FunctionSpec(name="m:late", version="v1", digest="late", defs=["late"])
    declared = client.ask(client.declaration("e", function, workers_max=1))
    client.submit(declared.fn)
    scene.advance(1)
    (worker,) = host.workers.values()
    assert not worker.wire.all(Def)
    worker.fails("load")
    client.ask(PutDef(digest="late"), [b"code"])
    client.submit(declared.fn)
    assert [said.parts for said in worker.wire.said if isinstance(said.head, Def)] == [(b"code",)]
    assert not client.wire.all(Error)


def test_a_page_that_names_another_epoch_is_no_evidence(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(workers_max=1), max_retries=5)
    scene.executions[job] = 0
    worker.current = Current(job=job, epoch=0, attempt=0)
    worker.die()
    scene.advance(1)
    assert scene.attempts(job) == []
    assert len(worker.wire.all(Start)) == 1


def test_what_a_function_needs_since_it_was_declared_again_reaches_a_warm_worker(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    """The calls that it makes go by a table, which is another one when what it calls has changed."""
    ids = []
    for table in ("table 1", "table 2"):
        function = FunctionSpec(name="m:caller", version="v1", digest="caller", defs=["caller", table])
        declared = client.ask(client.declaration("e", function, workers_max=1))
        for digest in declared.missing:
            client.ask(PutDef(digest=digest), [digest.encode()])
        ids.append(declared.fn)
        job = client.submit(declared.fn)
        scene.advance(1)
        (worker,) = host.workers.values()
        worker.done()
        assert client.outcome(job).status == "COMPLETED"
    assert ids[0] == ids[1]
    (worker,) = host.workers.values()
    assert [head.digest for head in worker.wire.all(Def)] == ["caller", "table 1", "table 2"]
