"""Names that programs of the vendor's SDK use beside `remote`: what stands behind them here."""

from __future__ import annotations

import asyncio

import pytest

from runpod_flash import (
    CpuLiveServerless,
    FlashApp,
    NetworkVolume,
    PodTemplate,
    ResourceManager,
    UsageError,
    progress,
    remote,
)
from runpod_flash.testing import IsolatedEngine

config = CpuLiveServerless(name="managed", workersMax=2)


@remote(config)
def of_both_names(step: int) -> bool:
    import runpod_flash
    import tetra_rp
    from tetra_rp import progress as report

    runpod_flash.progress({"step": step})
    report("half\nway")
    return runpod_flash.LiveServerless is tetra_rp.LiveServerless


def test_endpoints_are_looked_after_by_their_ids(flash_engine: IsolatedEngine) -> None:
    manager = ResourceManager()
    there = asyncio.run(manager.get_or_deploy_resource(config))
    assert there == config.replace(id=there.id)
    assert manager.list_all_resources() == {}, "an endpoint is made by the first call of a function on it"
    assert remote(there)(of_both_names.__wrapped__).sync(1).unwrap()
    ((id, endpoint),) = ResourceManager().find_resources_by_name("managed")
    assert (id, endpoint.workersMax, endpoint.workers) == (there.id, 2, 1)
    assert manager.find_resources_by_name("other") == []
    with pytest.raises(UsageError, match="workers end by themselves"):
        asyncio.run(manager.undeploy_resource(id))


def test_progress_is_a_line_of_the_jobs_output(flash_engine: IsolatedEngine, capfd: pytest.CaptureFixture[str]) -> None:
    assert of_both_names.sync(3).unwrap(), "and both names are there, and one, in a worker"
    said = [line.partition("] ")[2] for line in capfd.readouterr().err.splitlines()]
    assert said == ['progress: {"step": 3}', "progress: half way"]


def test_progress_outside_of_a_job_is_a_line_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    progress(0.5)
    progress(object)
    assert capfd.readouterr().err == "progress: 0.5\nprogress: <class 'object'>\n"


def test_apps_and_their_environments_are_looked_after_from_programs(flash_engine: IsolatedEngine) -> None:
    asyncio.run(looked_after())


async def looked_after() -> None:
    app = await FlashApp.create("shop")
    with pytest.raises(UsageError, match="there is an app 'shop' already"):
        await FlashApp.create("shop")
    assert (await FlashApp.get_or_create("shop")).name == app.name == (await FlashApp.from_name("shop")).name
    with pytest.raises(UsageError, match=r"there is no app 'shp'\. Did you mean 'shop'"):
        await FlashApp.from_name("shp")
    made = await app.create_environment("staging")
    assert made == ("shop", "staging", None)
    assert await app.list_environments() == [made]
    with pytest.raises(UsageError, match="nothing of shop is deployed in staging"):
        await app.undeploy("staging")
    await app.delete_environment("staging")
    await FlashApp.delete("shop")
    assert await FlashApp.list() == []


def test_the_manager_takes_resources_only() -> None:
    with pytest.raises(UsageError, match="it takes one of the eight resource classes"):
        asyncio.run(ResourceManager().get_or_deploy_resource("managed"))  # type: ignore[type-var]


def test_fields_that_only_a_cloud_uses_are_said_to_do_nothing_and_once(
    flash_engine: IsolatedEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = NetworkVolume("models", mount_path="/models")
    rich = CpuLiveServerless(
        name="rich",
        flashboot=True,
        imageName="image:1",
        networkVolumeId=volume.id,
        podTemplate=PodTemplate(memory_gb=1, expose_ports=["8080"]),
    )

    def double(x: int) -> int:
        return x * 2

    def triple(x: int) -> int:
        return x * 3

    assert [remote(rich)(each).sync(2).unwrap() for each in (double, double, triple)] == [4, 4, 6]
    said = [line for line in capfd.readouterr().err.splitlines() if "effect" in line]
    fields = "flashboot, imageName"
    assert said == [f"[flash] endpoint 'rich': {fields} have no effect on this machine"]
