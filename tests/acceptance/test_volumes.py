"""Volumes, processors, memory and ports, as a user's program asks for them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from runpod_flash import ConfigError, CpuLiveLoadBalancer, CpuLiveServerless, NetworkVolume, PodTemplate, remote
from runpod_flash.cli.connection import connect
from runpod_flash.host.machine import measure
from runpod_flash.testing import IsolatedEngine
from tests.disasters.test_stores import mounted

MOUNTS = "no_mounts" not in measure().facts
needs_views = pytest.mark.skipif(not MOUNTS, reason="processes cannot have a view of the files of their own here")


def write(name: str, text: str) -> list[str]:
    import os
    from pathlib import Path

    Path("/flash-models", name).write_text(text)
    return sorted(os.listdir("/runpod-volume"))


@needs_views
def test_functions_of_several_endpoints_share_a_volume_and_it_is_nowhere_else(flash_engine: IsolatedEngine) -> None:
    volume = NetworkVolume(name="model_storage", size=1, mount_path="/flash-models")
    writer = remote(CpuLiveServerless("writer", networkVolumeId=volume.id))(write)
    balanced = remote(CpuLiveLoadBalancer("balanced", networkVolume=volume))(write)
    assert writer.sync("a", "1").unwrap() == ["a"]
    assert balanced.sync("b", "2") == ["a", "b"]
    assert remote(CpuLiveServerless("by_id", networkVolumeId="model_storage"))(listing).sync().unwrap() == ["a", "b"]
    assert remote(CpuLiveServerless("other", networkVolume=NetworkVolume("other")))(listing).sync().unwrap() == []
    assert not Path("/flash-models").exists()
    assert sorted(path.name for path in (flash_engine.home / "volumes/model_storage/files").iterdir()) == ["a", "b"]


def listing() -> list[str]:
    import os

    return sorted(os.listdir("/runpod-volume"))


def test_a_volume_that_is_only_named_and_not_there_is_an_error_with_the_command_that_makes_it(
    flash_engine: IsolatedEngine,
) -> None:
    for resource in (
        CpuLiveServerless("missing", networkVolumeId="my models"),
        CpuLiveServerless("missing", networkVolume=NetworkVolume(id="my models")),
    ):
        with pytest.raises(ConfigError, match=r"'my models'(.|\n)*flash volume create 'my models'"):
            remote(resource)(listing).sync()
    assert not (flash_engine.home / "volumes").exists()


@needs_views
def test_a_full_disk_under_a_volume_reaches_the_function(flash_engine: IsolatedEngine) -> None:
    def fill() -> int:
        try:
            with open("/runpod-volume/much", "wb") as file:
                file.write(bytes(4 << 20))
        except OSError as error:
            return error.errno or 0
        return 0

    folder = flash_engine.home / "volumes/small/files"
    folder.mkdir(parents=True)
    with mounted(folder, "-t", "tmpfs", "-o", "size=1m", "flash-test"):
        job = remote(CpuLiveServerless("filler", networkVolumeId="small"))(fill).sync()
        assert job.unwrap() == errno.ENOSPC


def test_limits_and_ports_reach_the_worker_and_ps_tells_of_them(
    flash_engine: IsolatedEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    def look() -> tuple[int, str]:
        import os

        return len(os.sched_getaffinity(0)), os.environ["RUNPOD_TCP_PORT_18477"]

    template = PodTemplate(memory_gb=1, cpu_count=1, expose_ports=["18477/http"])
    processors, port = remote(CpuLiveServerless("limited", podTemplate=template))(look).sync().unwrap()
    with connect() as engine:
        (row,) = [one for one in engine.all("endpoints") if one["name"] == "limited"]
    assert processors == 1
    assert row["workers"][0]["ports"] == {"18477": int(port)}
    assert "effect" not in capfd.readouterr().err


def test_more_memory_than_the_template_allows_ends_the_job_with_limit_and_use(flash_engine: IsolatedEngine) -> None:
    def eat() -> int:
        import time

        held = bytearray(300 << 20)
        time.sleep(30)
        return len(held)

    template = PodTemplate(memory_gb=0.1)
    job = remote(CpuLiveServerless("eater", podTemplate=template), max_retries=0)(eat).sync()
    assert "ran out of memory (its limit is 102 MB; it used " in (job.error or "")
    assert job.status == "FAILED"
