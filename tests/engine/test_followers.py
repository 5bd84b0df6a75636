"""What callers see while a job goes on: states, output, builds; and when they get the outcome."""

from __future__ import annotations

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import (
    EnvState,
    Log,
    Ok,
    Span,
    State,
)
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def line(job: str, text: str, attempt: int = 1, n: int = 0) -> Log:
    return Log(job=job, attempt=attempt, worker="w", fd=1, at_ms=1, n=n, lines=[text])


def span(job: str, attempt: int = 1) -> Span:
    return Span(job=job, attempt=attempt, worker="w", segment="", start=0, length=0, lines=1)


def kinds_of(client: ClientSide, job: str) -> list[str]:
    """What the client was sent about a job, in order."""
    return [type(said.head).__name__ for said in client.wire.said if getattr(said.head, "job", "") == job]


def test_every_line_is_shown_before_the_outcome(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), logs=True)
    host.wire.says(line(job, "one"))
    worker.done(logs=True)
    assert scene.state(job) is JobState.COMPLETED
    assert not client.outcomes(job)
    host.wire.says(line(job, "two"))
    host.wire.says(span(job), sid=7)
    scene.spin()
    assert kinds_of(client, job) == ["Log", "Log", "Outcome"]
    assert [head.lines for head in client.wire.all(Log)] == [["one"], ["two"]]
    assert host.wire.all(Ok)


def test_an_outcome_does_not_wait_for_lines_that_came_first(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), logs=True)
    host.wire.says(line(job, "one"))
    host.wire.says(span(job), sid=7)
    worker.done(logs=True)
    assert kinds_of(client, job) == ["Log", "Outcome"]


def test_the_lines_of_an_earlier_attempt_are_not_taken_for_those_of_this_one(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), logs=True)
    worker.fails(logs=True)
    host.wire.says(span(job, attempt=1), sid=7)
    scene.advance(0.3)
    worker.done(logs=True)
    assert not client.outcomes(job)
    host.wire.says(span(job, attempt=2), sid=9)
    scene.spin()
    assert client.outcomes(job)


def test_an_outcome_waits_two_seconds_for_its_lines_and_no_longer(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    job = client.submit(client.declare(), logs=True)
    worker.done(logs=True)
    scene.advance(1.9)
    assert not client.outcomes(job)
    scene.advance(0.2)
    assert client.outcomes(job)


def test_who_does_not_show_output_does_not_wait_for_it(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    job = client.submit(client.declare())
    worker.done(logs=True)
    assert kinds_of(client, job) == ["Outcome"]


def test_a_call_that_is_tried_again_says_so_to_who_shows_output(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    client.submit(client.declare(), logs=True)
    worker.fails()
    (state,) = client.wire.all(State)
    assert (state.status, state.attempt) == ("IN_QUEUE", 1)
    assert state.why.startswith("retry 1 of 1")


def test_what_a_job_waits_for_is_told_after_a_second(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn)
    waits = client.submit(fn, logs=True)
    scene.advance(0.9)
    assert not client.wire.all(State)
    scene.advance(0.5)
    (state,) = client.wire.all(State)
    assert (state.job, state.why) == (waits, "waiting for a worker: workersMax=1 is busy")


def test_a_build_is_shown_to_those_whose_jobs_wait_for_it(scene: Scene, client: ClientSide, host: HostSide) -> None:
    host.builds = "never"
    job = client.submit(client.declare(), logs=True)
    quiet = scene.client()
    quiet.submit(quiet.declare())
    scene.advance(0.1)
    (environment,) = [one for one in scene.engine.state.environments.values() if one.state == "building"]
    host.wire.says(EnvState(env=environment.key, phase="build", line="Resolved 3 packages"))
    scene.spin()
    assert [state.line for state in client.wire.all(EnvState)] == ["Resolved 3 packages"]
    assert not quiet.wire.all(EnvState)
    assert not client.outcomes(job)
