"""How many workers there are, where, and for how long."""

from __future__ import annotations

from collections.abc import Callable

from runpod_flash.model.endpoint import GpuRequest
from runpod_flash.model.job import JobPolicy
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import Frame
from runpod_flash.wire.messages import EnsureEnv, Launch, Stop
from tests.engine.scene import ClientSide, HostSide, Scene, WorkerSide


def test_five_functions_with_five_environments_share_three_workers(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    fns = [client.declare(f"f{n}", requirements=(f"package-{n}",)) for n in range(5)]
    jobs = [client.submit(fn) for fn in fns for _ in range(2)]
    most = 0
    for _ in range(100):
        scene.advance(0.2)
        most = max(most, len(host.workers))
        for worker in list(host.workers.values()):
            if worker.running is not None:
                worker.done()
    assert all(client.outcome(job).status == "COMPLETED" for job in jobs)
    assert most == 3


def test_a_worker_that_falls_idle_gives_its_place_to_who_waits_for_one(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    long = client.declare("long", workers_max=1, requirements=("a",))
    other = client.declare("other", workers_max=1, requirements=("b",))
    client.submit(long)
    scene.advance(1)
    (first,) = host.workers.values()
    waits = client.submit(other)
    scene.advance(60)
    assert first.running is not None
    first.done()
    scene.advance(0.1)
    (second,) = host.workers.values()
    assert second.jobs == [waits]


def test_an_idle_worker_ends_after_its_timeout(scene: Scene, client: ClientSide, host: HostSide) -> None:
    client.submit(client.declare(idle_timeout_s=10))
    scene.advance(1)
    (worker,) = host.workers.values()
    worker.done()
    scene.advance(9.5)
    assert not host.wire.all(Stop)
    scene.advance(0.6)
    assert [(stop.why, stop.grace_ms) for stop in host.wire.all(Stop)] == [("idle", 2000)]
    scene.spin()
    assert not scene.engine.state.workers


def test_a_timeout_of_nothing_ends_it_at_once(scene: Scene, client: ClientSide, host: HostSide) -> None:
    client.submit(client.declare(idle_timeout_s=0))
    scene.advance(1)
    next(iter(host.workers.values())).done()
    scene.advance(0.1)
    assert host.wire.all(Stop)


def test_min_workers_start_by_themselves_and_end_when_nobody_holds_them(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    client.declare(workers_min=2, idle_timeout_s=20)
    scene.advance(1)
    assert len(host.workers) == 2
    scene.advance(300)
    assert len(host.workers) == 2
    client.leave()
    scene.advance(19)
    assert len(host.workers) == 2
    scene.advance(2)
    assert not host.workers


def test_the_newest_idle_worker_is_the_next_to_work(scene: Scene, client: ClientSide, host: HostSide) -> None:
    fn = client.declare(workers_max=2)
    client.submit(fn)
    client.submit(fn)
    scene.advance(1)
    first, second = host.workers.values()
    first.done()
    second.done()
    job = client.submit(fn)
    assert second.jobs == [job]


def test_cards_are_leased_to_one_worker_at_a_time(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    client = scene.client()
    host = scene.host_up(gpus=2)
    fn = client.declare(gpus=(GpuRequest("any", 1),), workers_max=3)
    for _ in range(3):
        client.submit(fn)
    scene.advance(1)
    assert sorted(launch.gpus for launch in host.wire.all(Launch)) == [[0], [1]]
    scene.check()


def test_what_the_machine_lacks_is_told_at_the_declaration(scene: Scene, client: ClientSide, host: HostSide) -> None:
    function = messages.FunctionSpec(name="m:big", version="v1", digest="d")
    gpus = (GpuRequest("AMPERE_80", 2),)
    declared = client.ask(client.declaration("big", function, gpus=gpus, memory_mb=1 << 20))
    assert declared.notices == [
        "endpoint 'big' asks for 2 × AMPERE_80, and this machine has no GPU: its functions run on the CPU",
        "endpoint 'big' asks for 1024 GB of memory, and this machine has 7.8 GB: that is the limit of each worker",
    ]


def test_who_wants_exactly_that_hardware_is_refused_and_nothing_is_declared(
    scene: Scene, client: ClientSide, host: HostSide
) -> None:
    function = messages.FunctionSpec(name="m:big", version="v1", digest="d")
    declaration = client.declaration("big", function, memory_mb=1 << 20)
    declaration.exact = True
    refused = client.ask(declaration)
    assert refused.code == "config"
    assert "asks for 1024 GB of memory, and this machine has 7.8 GB" in refused.what
    assert "big" not in [row["name"] for row in client.ask(messages.Query(what="endpoints")).rows]


def test_a_declaration_waits_for_the_machine_when_it_matters_and_not_for_ever(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    client = scene.client()
    function = messages.FunctionSpec(name="m:f", version="v1", digest="d")
    sid = client.says(client.declaration("e", function, gpus=(GpuRequest(),)))
    assert not [said for said in client.wire.said if said.sid == sid]
    scene.advance(1.1)
    assert client.answer(sid).fn


def test_who_leaves_while_its_declaration_waits_holds_nothing(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    client = scene.client()
    function = messages.FunctionSpec(name="m:f", version="v1", digest="d")
    client.says(client.declaration("e", function, gpus=(GpuRequest(),), workers_min=1))
    client.leave()
    scene.advance(5)
    assert not any(endpoint.holders for endpoint in scene.engine.state.endpoints.values())


def test_two_programs_that_disagree_are_told_and_two_links_of_one_are_not(scene: Scene, client: ClientSide) -> None:
    function = messages.FunctionSpec(name="m:f", version="v1", digest="d")
    client.ask(client.declaration("e", function, workers_max=1))
    second_link = scene.client()
    assert second_link.ask(second_link.declaration("e", function, workers_max=2)).notices == []
    stranger = scene.client()
    stranger.wire.pid = 1
    (notice,) = stranger.ask(stranger.declaration("e", function, workers_max=3)).notices
    assert "workers_max 2 → 3" in notice


def test_frames_that_a_role_does_not_have_are_told_apart(scene: Scene, client: ClientSide, host: HostSide) -> None:
    client.wire.says(messages.Beat())
    host.wire.says(messages.Submit(job="j", fn=1, policy=JobPolicy()))
    refused = [*client.wire.take(messages.Error), *host.wire.take(messages.Error)]
    assert [(error.code, error.what.partition(": ")[2]) for error in refused] == [
        ("bad_request", "not for a client to send"),
        ("bad_request", "not for a host to send"),
    ]
    client.wire.says(messages.Ping())
    assert client.wire.take(messages.Pong)
    client.wire.says(messages.Goodbye(reason="stop"))
    assert not client.wire.take(messages.Error)


def test_what_is_not_understood_costs_the_request_and_not_the_link(scene: Scene, client: ClientSide) -> None:
    for kind, head in ((99, b"{}"), (kinds.DONE, b"{}"), (kinds.QUERY, b"[]")):
        scene.engine.received(client.wire, Frame(kind, 0, kind, head, ()))
    assert [(said.sid, said.head.code) for said in client.wire.said if isinstance(said.head, messages.Error)] == [
        (99, "unsupported"),
        (kinds.DONE, "bad_request"),
        (kinds.QUERY, "bad_request"),
    ]
    client.wire.says(messages.Ping())
    assert client.wire.take(messages.Pong)


def test_a_worker_that_nobody_knows_is_named_as_stale(scene: Scene, client: ClientSide, host: HostSide) -> None:
    host.wire.says(messages.Beat(workers=[("w-of-long-ago", 1, 1)]), sid=3)
    scene.spin()
    assert host.wire.all(messages.BeatOk)[-1].stale == ["w-of-long-ago"]


def test_an_environment_that_vanished_is_built_again(
    scene: Scene, client: ClientSide, host: HostSide, worker: WorkerSide
) -> None:
    worker.die()
    host.launches = "error"
    client.submit(client.declare(workers_max=1))
    builds = len(host.wire.all(EnsureEnv))
    scene.advance(0.1)
    host.launches = "ready"
    scene.advance(1)
    assert len(host.wire.all(EnsureEnv)) == builds + 1
    assert len(host.workers) == 1
