"""Volumes in workers: where they were asked for, for these workers alone, and nothing of it on the machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.host.machine import measure
from runpod_flash.model.endpoint import Mount
from runpod_flash.wire.messages import Exited, Span, Stop
from runpod_flash.wire.volumes import Volume
from tests.host.conftest import Machine

needs_views = pytest.mark.skipif(
    "no_mounts" in measure().facts, reason="processes cannot have a view of the files of their own here"
)


def look(machine: Machine, worker: str, function: Any, *args: Any) -> Any:
    """What a function prints as JSON on a worker."""
    done = machine.call(worker, function, *args, job=f"job-{worker}-{function.__name__}")
    assert done.ok, machine.log()
    span = machine.engine.expect(Span, lambda one: one.job == f"job-{worker}-{function.__name__}")
    return json.loads(machine.lines(span)[-1])


@needs_views
def test_workers_share_a_volume_at_its_place_and_it_outlives_them(machine: Machine, environment: str) -> None:
    def write(place: str) -> None:
        import json
        import os

        with open(f"{place}/sub/../weights", "w") as file:
            file.write("0.5")
        print(json.dumps([os.getuid(), os.environ["FLASH_VOLUME_MODEL_STORAGE"], os.environ["RUNPOD_VOLUME_ID"]]))

    def read(place: str) -> None:
        import json
        from pathlib import Path

        seen = [Path(at, "weights").read_text() for at in (place, "/runpod-volume")]
        print(json.dumps([*seen, sorted(str(path) for path in Path("/").iterdir())]))

    place = "/flash-test-models"
    mounts = [Mount("model-storage", place)]
    Volume(machine.home, "model-storage").ensure()
    (Volume(machine.home, "model-storage").files / "sub").mkdir()
    first, second = (machine.worker(environment, mounts=mounts) for _ in range(2))
    assert look(machine, first, write, place) == [os.getuid(), place, "model-storage"]
    machine.engine.send(Stop(worker=first))
    machine.engine.expect(Exited)
    text, same, tops = look(machine, second, read, place)
    assert (text, same) == ("0.5", "0.5")
    assert {*map(str, Path("/").iterdir())} <= {*tops}
    assert {place, "/runpod-volume"} <= {*tops}
    assert not Path(place).exists()
    assert not Path("/runpod-volume").exists()
    assert Volume(machine.home, "model-storage").in_use
    machine.stop()
    assert not list((machine.rundir / "workers").iterdir())
    assert (Volume(machine.home, "model-storage").files / "weights").read_text() == "0.5"
    assert not Volume(machine.home, "model-storage").in_use


@needs_views
def test_volumes_never_see_each_other(machine: Machine, environment: str) -> None:
    def search(home: str) -> None:
        import json
        import os

        found = [
            path for place in ("/flash-a", "/runpod-volume", home) for path, _, files in os.walk(place) if "x" in files
        ]
        print(json.dumps([found, os.listdir(f"{home}/volumes")]))

    for name in ("a", "b"):
        Volume(machine.home, name).ensure()
        (Volume(machine.home, name).files / "x").write_text(name)
    worker = machine.worker(environment, mounts=[Mount("a", "/flash-a")])
    assert look(machine, worker, search, str(machine.home)) == [["/flash-a", "/runpod-volume"], []]


@needs_views
def test_a_worker_can_have_several_also_one_in_another_and_in_folders_of_the_machine(
    machine: Machine, environment: str, tmp_path: Path
) -> None:
    def write(*places: str) -> None:
        import json
        import os
        from pathlib import Path

        for place in places:
            Path(place, "who").write_text(place)
        neighbour = Path(places[2]).parents[1] / "mine"
        neighbour.joinpath("new").write_text("written")
        print(json.dumps([sorted(os.listdir(places[0])), sorted(os.listdir(neighbour.parent))]))

    (tmp_path / "mine").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "hidden").touch()
    places = ["/flash-a", "/flash-a/in/it", str(tmp_path / "deep" / "er"), str(tmp_path / "there")]
    mounts = [Mount(name, place) for name, place in zip("abcd", places, strict=True)]
    worker = machine.worker(environment, mounts=mounts)
    assert look(machine, worker, write, *places) == [["in", "who"], ["deep", "mine", "there"]]
    for name, place in zip("abcd", places, strict=True):
        assert (Volume(machine.home, name).files / "who").read_text() == place
    # What the worker wrote beside its volumes is on the machine, and its volumes are not.
    assert (tmp_path / "mine" / "new").read_text() == "written"
    assert not (tmp_path / "deep").exists()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["hidden"]


@pytest.mark.parametrize(
    ("name", "place", "why"),
    [
        ("../../etc", "/flash-a", "cannot be the name of a volume"),
        ("a", "/", "would hide"),
        ("a", "{home}", "would hide"),
        ("a", "{home}/../home/.", "would hide"),
    ],
)
def test_what_would_lead_out_of_a_volume_or_hide_the_worker_itself_is_refused(
    machine: Machine, environment: str, name: str, place: str, why: str
) -> None:
    launched = machine.launch(environment, mounts=[Mount(name, place.format(home=machine.home))])
    assert why in launched.error
    assert not list((machine.rundir / "workers").iterdir())


def test_where_no_view_is_possible_variables_and_links_lead_to_the_volume(machine: Machine) -> None:
    def write() -> None:
        import json
        import os
        from pathlib import Path

        Path("flash-models", "weights").write_text("0.5")
        where = os.environ["FLASH_VOLUME_MODELS"]
        print(json.dumps([Path(where, "weights").read_text(), os.path.samefile(where, "runpod-volume")]))

    machine.start_altered(
        "from runpod_flash.wire import namespaces\nnamespaces.why_impossible = lambda stage: 'not allowed'"
    )
    environment = machine.build().path
    worker = machine.worker(environment, mounts=[Mount("models", "/flash-models")])
    assert look(machine, worker, write) == ["0.5", True]
