"""`flash purge`: what waits is cancelled, what has ended is forgotten, and nothing else is touched."""

from __future__ import annotations

from collections import Counter
from typing import Any

from runpod_flash.model.job import JobState
from runpod_flash.wire.messages import Admin, Outcome
from tests.engine.scene import ClientSide, Scene, WorkerSide, short


def purge(client: ClientSide, scene: Scene, **wanted: Any) -> Any:
    sid = client.says(Admin(verb="purge", args=wanted))
    for _ in range(20):  # slice by slice
        scene.advance(0.001)
    answer = client.answer(sid)
    return getattr(answer, "data", answer)


def test_what_waits_for_an_endpoint_is_cancelled_and_whoever_follows_it_is_told(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    fn, other = short(scene, client, worker), client.declare("g", endpoint="other")
    runs = client.submit(fn, max_retries=1)
    ahead = client.submit(fn, max_retries=1)
    waiting = [client.submit(fn, max_retries=0) for _ in range(450)]
    delayed = client.submit(fn, delay_ms=1 << 40)
    apart = client.submit(other, wait=False)
    assert scene.state(ahead) is JobState.ASSIGNED
    would = purge(client, scene, endpoint="e", dry=True)
    assert (would["jobs"], would["by_function"], would["dry_run"]) == (452, {"m:f": 452}, True)
    assert scene.state(waiting[0]) is JobState.READY
    assert purge(client, scene, endpoint="e")["by_status"] == {"IN_QUEUE": 452}
    assert {scene.state(job) for job in (ahead, *waiting, delayed)} == {JobState.CANCELLED}
    assert client.outcome(waiting[0]).error is not None
    assert Counter(outcome.status for outcome in client.wire.all(Outcome))["CANCELLED"] == 452
    assert scene.state(runs) is JobState.RUNNING
    assert scene.state(apart) is not JobState.CANCELLED
    assert purge(client, scene, endpoint="e")["jobs"] == 0


def test_one_function_may_be_named(scene: Scene, client: ClientSide) -> None:
    f, g = client.declare(), client.declare("g")
    kept, gone = client.submit(f, wait=False), client.submit(g, wait=False)
    assert purge(client, scene, endpoint="e", fn="g")["by_function"] == {"m:g": 1}
    assert (scene.state(kept), scene.state(gone)) == (JobState.READY, JobState.CANCELLED)


def test_ended_jobs_are_forgotten_by_their_age(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    jobs = []
    for _ in range(3):
        jobs.append(client.submit(fn, wait=False))
        worker.done()
        scene.advance(10)
    waits = client.submit(fn, delay_ms=1 << 40, wait=False)
    would = purge(client, scene, ended=True, older_than_ms=15_000, endpoint="e", dry=True)
    assert would["jobs"] == 3, "two of these, and the first one of the worker"
    assert purge(client, scene, ended=True, older_than_ms=15_000)["by_status"] == {"COMPLETED": 3}
    assert {row["job"] for row in client.query("jobs")} == {jobs[2], waits}


def test_an_order_that_would_be_about_everything_is_refused(scene: Scene, client: ClientSide) -> None:
    assert purge(client, scene).code == "config"
    assert purge(client, scene, ended=True, older_than_ms=-1).code == "config"
    assert purge(client, scene, ended=True, older_than_ms="old").code == "config"
    assert purge(client, scene, ended=True)["jobs"] == 0
