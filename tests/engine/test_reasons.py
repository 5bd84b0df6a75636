"""Why nothing runs: each reason as the row of an endpoint tells it, to programs as a code and to people in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runpod_flash.model.endpoint import GpuRequest
from runpod_flash.wire.messages import Done, EnvState, ErrorInfo, Launched, Measure
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def endpoint(client: ClientSide, name: str = "e", **wanted: Any) -> dict[str, Any]:
    (row,) = [row for row in client.query("endpoints", **wanted) if row["name"] == name]
    return row


def waits(client: ClientSide, name: str = "e") -> dict[str, Any]:
    found = endpoint(client, name)["waits"]
    assert isinstance(found, dict)
    assert found["why"] == endpoint(client, name)["why"]
    return found


def test_nothing_waits_without_a_reason_and_nothing_has_one_without_waiting(
    scene: Scene, client: ClientSide, worker: WorkerSide
) -> None:
    assert endpoint(client)["waits"] is None
    client.submit(client.declare(workers_max=1))
    assert endpoint(client)["waits"] is None, "it runs"


def test_the_host_is_not_there(scene: Scene, client: ClientSide) -> None:
    client.submit(client.declare())
    found = waits(client)
    assert found["code"] == "host"
    assert "the program that starts workers" in found["why"]


def test_an_environment_is_being_built_since_then_and_says_what_it_does(scene: Scene, client: ClientSide) -> None:
    host = scene.host_up(builds="never")
    client.submit(client.declare(requirements=("torch",)))
    began = scene.time.wall_ms()
    scene.advance(12)
    key = next(key for key, one in scene.engine.state.environments.items() if one.state == "building")
    host.wire.says(EnvState(env=key, phase="build", line="Downloading torch (800 MiB)"))
    found = waits(client)
    assert (found["code"], found["detail"]["line"]) == ("environment", "Downloading torch (800 MiB)")
    assert abs(found["since_at_ms"] - began) < 500


def test_a_card_is_leased_to_somebody_who_is_named(scene: Scene, client: ClientSide) -> None:
    host = scene.host_up(gpus=1)
    client.submit(client.declare("train", endpoint="trainer", gpus=(GpuRequest(),)))
    scene.advance(1)
    client.submit(client.declare("infer", endpoint="inferer", gpus=(GpuRequest(),)))
    scene.advance(1)
    found = waits(client, "inferer")
    (holder,) = host.workers
    assert (found["code"], found["detail"]["leases"]) == (
        "gpu",
        [{"gpu": 0, "worker": holder, "endpoint": "trainer"}],
    )


def test_its_workers_max_are_busy_and_for_how_long(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=1)
    client.submit(fn)
    client.submit(fn, max_retries=0)
    scene.advance(5)
    found = waits(client)
    assert (found["code"], found["why"]) == ("workers_max", "waiting for a worker: workersMax=1 is busy")
    assert 4000 < scene.time.wall_ms() - found["since_at_ms"] <= 5100


def test_workers_crash_at_their_start_and_the_last_line_says_why(scene: Scene, client: ClientSide) -> None:
    host = scene.host_up(launches="never")
    client.submit(client.declare())
    scene.advance(0.1)
    (name,) = scene.engine.state.workers
    host.wire.says(Launched(worker=name, error="the interpreter is gone\nModuleNotFoundError: numpy"))
    scene.advance(0.15)
    found = waits(client)
    assert found["code"] == "backoff"
    assert found["why"].endswith(": ModuleNotFoundError: numpy")
    assert found["until_at_ms"] > scene.time.wall_ms()
    assert found["detail"] == {"error": "ModuleNotFoundError: numpy", "failed_starts": 1}


def test_a_worker_is_starting(scene: Scene, client: ClientSide) -> None:
    scene.host_up(launches="never")
    client.submit(client.declare())
    scene.advance(0.1)
    assert waits(client)["code"] == "starting"


def test_a_short_line_in_front_of_a_worker_is_no_trouble(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    fn = client.declare(workers_max=3)
    client.submit(fn)
    client.submit(fn, max_retries=0)
    assert (waits(client)["code"], waits(client)["why"]) == ("busy", "in line: its worker is busy")


def test_jobs_that_wait_for_their_time_say_when_it_comes(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    client.submit(client.declare(workers_max=1), delay_ms=60_000)
    found = waits(client)
    assert (found["code"], found["until_at_ms"]) == ("delayed", scene.time.wall_ms() + 60_000)
    assert endpoint(client)["delayed"] == 1
    assert "1 job waits for a later time" in found["why"]
    assert "in 60 s" in found["why"]


def test_an_engine_that_leaves_starts_nothing_new(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    client.submit(client.declare(workers_max=1))
    scene.engine.state.draining = True
    client.submit(client.declare(workers_max=1))
    assert waits(client)["code"] == "draining"
    scene.engine.state.draining = False


# ── what is in use ────────────────────────────────────────────────────────────────────────────────


def test_the_host_is_asked_for_what_is_in_use_only_when_somebody_wants_to_know(
    scene: Scene, client: ClientSide
) -> None:
    host = scene.host_up(gpus=1)
    job = client.submit(client.declare(gpus=(GpuRequest(),)))
    scene.advance(2)
    (worker,) = endpoint(client)["workers"]
    assert (worker["memory_kb"], worker["cpu_percent"], worker["cards"]) == (None, None, [])
    assert host.wire.all(Measure) == []
    (worker,) = endpoint(client, measure=True)["workers"]
    assert (worker["memory_kb"], worker["cpu_percent"], worker["processes"]) == (1500, 70, 2)
    assert [(card["gpu"], card["percent"]) for card in worker["cards"]] == [(0, 30)]
    assert (worker["job"], worker["inflight"]) == (job, 1)
    assert 1000 < scene.time.wall_ms() - worker["job_since_at_ms"] <= 2100


def test_a_host_that_does_not_answer_holds_nobody_up_for_long(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    host.wire.hears = None
    from runpod_flash.wire.messages import Query

    sid = client.says(Query(what="endpoints", filter={"measure": True}))
    scene.advance(2.1)
    assert "e" in [row["name"] for row in client.answer(sid).rows]


def test_an_answer_without_a_host_comes_at_once(scene: Scene, client: ClientSide) -> None:
    client.declare()
    assert endpoint(client, measure=True)["workers"] == []


def test_the_newest_pool_is_told_from_those_of_older_code(
    scenes: Callable[..., Scene],
) -> None:
    scene = scenes()
    client = scene.client()
    client.declare()
    scene.advance(5)
    client.declare(requirements=("numpy",))
    newest = {pool["id"]: pool["newest"] for pool in endpoint(client)["pools"]}
    assert list(newest.values()) == [False, True]
    scene.restart()
    assert {pool["id"]: pool["newest"] for pool in endpoint(scene.client())["pools"]} == newest


def test_a_failure_that_is_tried_again_is_a_delayed_job(scene: Scene, client: ClientSide, worker: WorkerSide) -> None:
    client.submit(client.declare(workers_max=1))
    assert worker.running is not None
    failed = Done(job=worker.running.job, epoch=worker.running.epoch, ok=False, error=ErrorInfo(type="E", message="m"))
    worker.finish(worker.running, failed)
    scene.spin()
    assert waits(client)["code"] == "delayed"
