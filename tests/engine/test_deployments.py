"""Releases: staged beside the one that is called, and in its place once their workers are ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runpod_flash.engine.store.apps import Apps
from runpod_flash.errors import StoreError
from runpod_flash.model.endpoint import EndpointSpec, GpuRequest, PoolSpec
from runpod_flash.model.job import JobState
from runpod_flash.wire import messages
from runpod_flash.wire.messages import Deploy, DeployedEndpoint, FunctionSpec, Launch, Route
from runpod_flash.wire.secrets import Secrets
from tests.engine.scene import RUNTIME, ClientSide, HostSide, Scene

NewScene = Callable[..., Scene]


def pool(**fields: Any) -> PoolSpec:
    return PoolSpec(interpreter="/usr/bin/python3", abi="cpython-311", runtime=RUNTIME, **fields)


def endpoint(
    name: str = "e", *, functions: dict[str, str] | None = None, kind: Any = "queue", routes: bool = False,
    on: PoolSpec | None = None, **limits: Any,
) -> DeployedEndpoint:  # fmt: skip
    """Functions by name, each with its version, in one pool."""
    limits = {"idle_timeout_s": 1e9, **limits}
    specs = [
        FunctionSpec(
            name=f"m:{one}", version=version, digest=f"{one}-{version}", defs=[f"{one}-{version}"],
            routes=[Route("POST", f"/{one}")] if routes else [],
        )
        for one, version in (functions or {"f": "v1"}).items()
    ]  # fmt: skip
    return DeployedEndpoint(
        endpoint=EndpointSpec(app="shop", env="prod", name=name, kind=kind, origin="deployed", **limits),
        pools=[on or pool()],
        functions=[(0, spec) for spec in specs],
    )


def lookup(name: str, at: str = "e") -> messages.Lookup:
    function = FunctionSpec(name=name, version="", digest="")
    return messages.Lookup(app="shop", env="prod", endpoint=at, function=function)


class Deployer:
    """A program that deploys."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.client: ClientSide = scene.client()
        self.sid = 0

    def begin(self, *parts: DeployedEndpoint, **fields: Any) -> None:
        for part in parts:
            for _pool, spec in part.functions:
                self.client.ask(messages.PutDef(digest=spec.digest), [b"code"])
        self.sid = self.client.says(Deploy(app="shop", env="prod", endpoints=list(parts), **fields))
        self.scene.advance(0.1)

    def deploy(self, *parts: DeployedEndpoint, **fields: Any) -> Any:
        self.begin(*parts, **fields)
        return self.answer()

    def answer(self) -> Any:
        head = self.client.answer(self.sid)
        return head.data if isinstance(head, messages.Ok) else head

    def is_under_way(self) -> bool:
        return not any(said.sid == self.sid and said.flags for said in self.client.wire.said)


@pytest.fixture(autouse=True)
def with_a_host(scene: Scene) -> None:
    scene.host_up()


def host(scene: Scene) -> HostSide:
    assert scene.host is not None
    return scene.host


def called(client: ClientSide, name: str = "f", at: str = "e") -> int:
    head = client.ask(lookup(name, at))
    assert isinstance(head, messages.Declared), head
    return head.fn


def version_of(scene: Scene, fn: int) -> str:
    return scene.engine.state.functions[fn].spec.version


def test_a_release_is_called_once_its_worker_is_ready(scene: Scene) -> None:
    deployer = Deployer(scene)
    host(scene).launches = "never"
    deployer.begin(endpoint())
    assert deployer.is_under_way()
    assert deployer.client.ask(lookup("f")).code == "not_deployed"
    (launch,) = host(scene).wire.all(Launch)
    host(scene).launches = "ready"
    host(scene).launch(launch)
    scene.spin()
    assert deployer.answer()["version"] == 1
    client = scene.client()
    job = client.submit(called(client))
    (worker,) = host(scene).workers.values()
    worker.done()
    assert client.outcome(job).status == "COMPLETED"


def test_a_program_calls_by_the_short_name_and_ships_nothing(scene: Scene) -> None:
    Deployer(scene).deploy(endpoint(functions={"f": "v1", "g": "v1"}))
    client = scene.client()
    assert version_of(scene, called(client, "script.py:f")) == "v1"
    head = client.ask(lookup("h"))
    assert "without a function 'h'" in head.what


def test_what_runs_finishes_on_the_old_release_and_new_calls_go_to_the_new_one(scene: Scene) -> None:
    deployer, client = Deployer(scene), scene.client()
    deployer.deploy(endpoint(workers_max=1))
    fn = called(client)
    running, waiting = client.submit(fn), client.submit(fn)
    (old,) = host(scene).workers.values()
    assert deployer.deploy(endpoint(functions={"f": "v2"}, workers_max=1))["version"] == 2
    new_job = client.submit(fn)  # by the number that the program was given before
    new = next(worker for worker in host(scene).workers.values() if worker is not old)
    assert new.jobs == [new_job]
    assert old.jobs[0] == running
    old.done()
    old.done()
    new.done()
    assert [client.outcome(job).status for job in (running, waiting, new_job)] == ["COMPLETED"] * 3
    scene.advance(0.1)
    assert list(host(scene).workers.values()) == [new], "the old release has nothing to do, and its worker is there"


def test_the_new_release_takes_no_place_of_the_old_one(scene: Scene) -> None:
    deployer, client = Deployer(scene), scene.client()
    deployer.deploy(endpoint(workers_min=2, workers_max=2))
    assert len(host(scene).workers) == 2
    fn = called(client)
    jobs = [client.submit(fn) for _ in range(2)]
    deployer.deploy(endpoint(functions={"f": "v2"}, workers_min=2, workers_max=2))
    assert len(host(scene).workers) == 4
    for worker in [one for one in host(scene).workers.values() if one.jobs]:
        worker.done()
    assert {client.outcome(job).status for job in jobs} == {"COMPLETED"}
    scene.advance(1)
    assert len(host(scene).workers) == 2


def test_deploying_the_same_again_changes_nothing(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint(on=pool(base_env={"PATH": "/bin"})))
    launched = len(host(scene).wire.all(Launch))
    again = deployer.deploy(endpoint(on=pool(base_env={"PATH": "/usr/bin"})))
    assert (again["changed"], again["version"], again["changes"]) == (False, 1, [])
    assert len(host(scene).wire.all(Launch)) == launched


def test_who_deploys_another_folder_under_the_same_name_is_told(scene: Scene) -> None:
    deployer = Deployer(scene)
    assert deployer.deploy(endpoint(), project="/shop")["moved"] == ""
    again = deployer.deploy(endpoint(functions={"f": "v2"}), project="/other", dry=True)
    assert again["moved"] == "/shop"


def test_an_endpoint_that_did_not_change_keeps_its_workers(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint("a", workers_min=1), endpoint("b", workers_min=1))
    before = {worker.id for worker in host(scene).workers.values()}
    answer = deployer.deploy(endpoint("a", workers_min=1), endpoint("b", functions={"f": "v2"}, workers_min=1))
    assert [(one["endpoint"], one["what"]) for one in answer["changes"]] == [("b", "code of f")]
    assert len(before & {worker.id for worker in host(scene).workers.values()}) == 1


def test_the_plan_tells_every_change_and_changes_nothing(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint("a", workers_max=3), endpoint("gone"), endpoint("c", on=pool(variables={"KEY": "secret"})))
    plan = deployer.deploy(
        endpoint("a", workers_max=5, on=pool(requirements=("numpy",))),
        endpoint("new"),
        endpoint("c", on=pool(variables={"KEY": "other"})),
        dry=True,
    )
    told = [(one["kind"], one["endpoint"], one["what"], one["before"], one["after"]) for one in plan["changes"]]
    assert told == [
        ("new", "new", "", "", ""),
        ("changed", "a", "workersMax", "3", "5"),
        ("changed", "a", "dependencies", "none", "numpy"),
        ("changed", "c", "env KEY", "", ""),
        ("removed", "gone", "", "", ""),
    ]
    assert scene.rows("SELECT n FROM releases") == [{"n": 1}]


def test_an_engine_that_is_killed_before_the_workers_are_ready_comes_back_with_the_old_release(scene: Scene) -> None:
    deployer, client = Deployer(scene), scene.client()
    deployer.deploy(endpoint())
    host(scene).launches = "never"
    deployer.begin(endpoint(functions={"f": "v2"}))
    assert deployer.is_under_way()
    scene.restart()
    host(scene).launches = "ready"
    scene.back()
    client = scene.client()
    fn = called(client)
    assert version_of(scene, fn) == "v1"
    job = client.submit(fn)
    scene.spin()
    next(worker for worker in host(scene).workers.values() if worker.jobs).done()
    assert client.outcome(job).status == "COMPLETED"


def test_an_engine_that_is_killed_after_the_change_comes_back_with_the_new_release(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint(kind="lb", routes=True))
    deployer.deploy(endpoint(kind="lb", routes=True, functions={"f": "v2"}))
    scene.restart()
    scene.back()
    assert version_of(scene, called(scene.client())) == "v2"
    (found,) = scene.engine.exchanges.named("e")
    routed = scene.engine.exchanges.routes(found).find("POST", "/f")
    assert routed is not None
    assert routed.target.spec.version == "v2"


def test_a_release_whose_environment_cannot_be_built_is_refused_and_the_old_one_stays(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint())
    host(scene).builds = "failed"
    answer = deployer.deploy(endpoint(functions={"f": "v2"}, on=pool(requirements=("scikit-lern",))))
    assert "version 2 was not deployed" in answer.what
    assert "scikit-lern" in answer.why
    assert version_of(scene, called(scene.client())) == "v1"


def test_a_release_whose_workers_cannot_start_is_refused(scene: Scene) -> None:
    deployer = Deployer(scene)
    host(scene).launches = "error"
    deployer.begin(endpoint())
    scene.advance(30)
    assert "the interpreter is gone" in deployer.answer().why
    host(scene).launches = "ready"
    assert deployer.deploy(endpoint())["version"] == 1


def test_whoever_deploys_and_leaves_has_changed_nothing(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint())
    host(scene).launches = "never"
    deployer.begin(endpoint(functions={"f": "v2"}))
    deployer.client.leave()
    assert version_of(scene, called(scene.client())) == "v1"
    host(scene).launches = "ready"
    assert Deployer(scene).deploy(endpoint(functions={"f": "v3"}))["version"] == 2


def test_two_deploys_at_once_are_told_apart(scene: Scene) -> None:
    first, second = Deployer(scene), Deployer(scene)
    host(scene).launches = "never"
    first.begin(endpoint())
    assert "another deploy to shop in prod is under way" in second.deploy(endpoint()).what


def test_what_needs_the_card_that_the_old_release_has_does_not_wait_for_ever(scenes: NewScene) -> None:
    scene = scenes()
    scene.host_up(gpus=1)
    deployer, client = Deployer(scene), scene.client()
    card = pool(gpus=(GpuRequest("any", 1),))
    deployer.deploy(endpoint(on=card, workers_min=1))
    job = client.submit(called(client))
    deployer.begin(endpoint(functions={"f": "v2"}, on=card, workers_min=1))
    scene.advance(7)
    assert deployer.answer()["version"] == 2
    (old,) = host(scene).workers.values()
    old.done()
    scene.advance(1)
    (new,) = host(scene).workers.values()
    assert new is not old
    assert client.outcome(job).status == "COMPLETED"


def test_a_release_is_gone_back_to_and_forward_again(scene: Scene) -> None:
    deployer = Deployer(scene)
    for number in (1, 2, 3):
        deployer.deploy(endpoint(functions={"f": f"v{number}"}))
    client = scene.client()
    assert deployer.deploy(version=-1)["version"] == 2
    assert version_of(scene, called(client)) == "v2"
    assert deployer.deploy(version=-1)["version"] == 1
    assert version_of(scene, called(client)) == "v1"
    assert deployer.deploy(version=3)["version"] == 3
    assert "has no version 9" in deployer.deploy(version=9).what
    assert deployer.deploy(endpoint(functions={"f": "v4"}))["version"] == 4


def test_ten_releases_are_kept(scene: Scene) -> None:
    deployer = Deployer(scene)
    for number in range(1, 13):
        deployer.deploy(endpoint(functions={"f": f"v{number}"}))
    assert [row["n"] for row in scene.rows("SELECT n FROM releases")] == list(range(3, 13))


def test_functions_of_releases_that_are_kept_outlive_disuse(scene: Scene) -> None:
    deployer = Deployer(scene)
    for number in (1, 2):
        deployer.deploy(endpoint(functions={"f": f"v{number}"}))
    deployer.client.leave()
    scene.time.now += 9 * 86_400
    scene.advance(3601)
    assert Deployer(scene).deploy(version=1)["version"] == 1
    assert version_of(scene, called(scene.client())) == "v1"


def test_undeployed_is_called_no_more_and_what_runs_finishes(scene: Scene) -> None:
    deployer, client = Deployer(scene), scene.client()
    deployer.deploy(endpoint(workers_min=1, workers_max=1))
    fn = called(client)
    running, waiting = client.submit(fn), client.submit(fn)
    done = client.ask(messages.Admin(verb="undeploy", args={"app": "shop", "env": "prod"}))
    assert done.data["endpoints"] == ["e"]
    assert "was undeployed" in str(client.outcome(waiting).error)
    refused = client.ask(messages.Submit(job="new", fn=fn), [b"arguments"])
    assert isinstance(refused, messages.Error)
    assert refused.code == "unknown_function"
    (worker,) = host(scene).workers.values()
    worker.done()
    assert client.outcome(running).status == "COMPLETED"
    scene.advance(1)
    assert not host(scene).workers
    client.leave()
    deployer.client.leave()
    assert scene.engine.idle_since() is not None


def test_an_engine_with_something_deployed_does_not_idle(scene: Scene) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint())
    deployer.client.leave()
    assert scene.engine.idle_since() is None
    scene.restart()
    assert scene.engine.idle_since() is None


def test_a_script_does_not_change_what_is_deployed(scene: Scene) -> None:
    Deployer(scene).deploy(endpoint(workers_max=7))
    client = scene.client()
    script = FunctionSpec(name="script.py:f", version="mine", digest="mine", defs=["mine"])
    head = messages.Declare(
        endpoint=EndpointSpec(app="shop", env="prod", name="e", workers_max=1), pool=pool(), function=script
    )
    declared = client.ask(head)
    assert declared.missing == []
    assert version_of(scene, declared.fn) == "v1"
    known = scene.engine.state.functions[declared.fn].pool.endpoint.spec
    assert (known.workers_max, known.origin) == (7, "deployed")


def test_what_a_script_declared_gives_way_to_what_is_deployed_there(scene: Scene) -> None:
    client = scene.client()
    head = messages.Declare(
        endpoint=EndpointSpec(app="shop", env="prod", name="e"),
        pool=pool(),
        function=FunctionSpec(name="m:f", version="script", digest="d", defs=["d"]),
    )
    fn = client.ask(head).fn
    client.ask(messages.PutDef(digest="d"), [b"code"])
    Deployer(scene).deploy(endpoint())
    job = client.submit(fn)
    scene.spin()
    assert version_of(scene, scene.job(job)["fn"]) == "v1"


def test_secrets_reach_workers_and_nothing_else(scene: Scene) -> None:
    secrets = Secrets(scene.home, "shop", "prod")
    secrets.set("TOKEN", "s3cr3t-value", 1)
    deployer = Deployer(scene)
    deployer.deploy(endpoint(on=pool(variables={"PLAIN": "1"})))
    (launch,) = host(scene).wire.all(Launch)
    assert launch.variables == {"TOKEN": "s3cr3t-value", "PLAIN": "1"}
    assert not any(b"s3cr3t-value" in path.read_bytes() for path in scene.home.glob("store.sqlite*"))
    secrets.set("TOKEN", "other", 2)
    answer = deployer.deploy(endpoint(on=pool(variables={"PLAIN": "1"})))
    assert [(one["endpoint"], one["what"]) for one in answer["changes"]] == [("e", "secrets")]
    assert host(scene).wire.all(Launch)[-1].variables["TOKEN"] == "other"


def test_secrets_that_cannot_be_read_are_told(scene: Scene) -> None:
    secrets = Secrets(scene.home, "shop", "prod")
    secrets.file.parent.mkdir()
    secrets.file.write_text("nonsense")
    assert "secrets of shop in prod cannot be read" in Deployer(scene).deploy(endpoint()).what


def test_apps_and_environments_are_made_listed_and_deleted(scene: Scene) -> None:
    client = scene.client()

    def admin(verb: str, **args: str) -> Any:
        head = client.ask(messages.Admin(verb=verb, args=args))
        return head.data if isinstance(head, messages.Ok) else head

    assert admin("create_app", app="shop")["created"]
    assert not admin("create_app", app="shop")["created"]
    assert admin("create_env", app="shop", env="staging")["created"]
    assert "Did you mean 'shop'?" in admin("create_env", app="shp", env="x").what
    Deployer(scene).deploy(endpoint())
    (row,) = client.query("apps")
    assert row["envs"] == [{"env": "prod", "version": 1}, {"env": "staging", "version": None}]
    (release,) = client.query("releases", app="shop")
    assert release["active"]
    assert release["endpoints"][0]["functions"] == ["m:f"]
    Secrets(scene.home, "shop", "prod").set("TOKEN", "x", 1)
    assert admin("delete_env", app="shop", env="prod")["endpoints"] == ["e"]
    assert not Secrets(scene.home, "shop", "prod").facts()
    assert admin("delete_app", app="shop")["envs"] == ["staging"]
    assert client.query("apps") == []
    assert "there is no app 'shop'" in admin("delete_app", app="shop").what


def test_a_change_that_cannot_be_committed_is_told_and_the_old_release_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer = Deployer(scene)
    deployer.deploy(endpoint())

    def full(*_: Any) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Apps, "save_release", full)
        deployer.begin(endpoint(functions={"f": "v2"}))
    scene.advance(2)
    scene.back()
    assert version_of(scene, called(scene.client())) == "v1"
    assert scene.rows("SELECT n FROM releases") == [{"n": 1}]


def test_jobs_of_a_release_that_was_replaced_can_be_tried_again(scene: Scene) -> None:
    deployer, client = Deployer(scene), scene.client()
    deployer.deploy(endpoint())
    job = client.submit(called(client), max_retries=0)
    (worker,) = host(scene).workers.values()
    worker.fails()
    deployer.deploy(endpoint(functions={"f": "v2"}))
    client.ask(messages.Retry(job=job))
    scene.spin()
    next(one for one in host(scene).workers.values() if one.jobs).done()
    assert scene.state(job) is JobState.COMPLETED
    assert version_of(scene, scene.job(job)["fn"]) == "v1", "a retry is the same code"
