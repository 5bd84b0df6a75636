"""A process with a view of the files of its own, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runpod_flash
from runpod_flash.wire import namespaces

NOBODY = 65534
PROGRAM = """
import json, os, sys
sys.path.insert(0, {source!r})
from runpod_flash.wire import namespaces
namespaces.enter([({files!r}, place) for place in {places!r}], [{hidden!r}], {stage!r})
for place in {places!r}:
    with open(os.path.join(place, "who"), "a") as file:
        file.write(place + "\\n")
seen = {{"ids": [os.getuid(), os.getgid()], "tops": sorted(os.listdir("/")), "hidden": os.listdir({hidden!r})}}
print(json.dumps({{**seen, "stage": os.listdir({stage!r}), "beside": os.listdir({beside!r})}}))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may reach; pytest's own are closed."""
    made = Path(tempfile.mkdtemp(prefix="flash-views-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def command_as(user: int) -> list[str]:
    """How a Python program is started as that user; skips where it cannot be."""
    if user == os.geteuid():
        return [sys.executable, "-I", "-S"]
    setpriv = shutil.which("setpriv")
    if os.geteuid() or not setpriv:
        pytest.skip("only root, with setpriv, can become another user")
    for python in (sys.executable, "/usr/bin/python3"):
        command = [setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups", python, "-I", "-S"]
        reaches = f"import sys; assert sys.version_info >= (3, 10); open({str(namespaces.__file__)!r}).close()"
        if subprocess.run([*command, "-c", reaches], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("no Python, or not our source, is open to other users")


@pytest.mark.parametrize("user", [os.geteuid(), NOBODY], ids=["ourselves", "nobody"])
def test_places_appear_to_one_process_and_nothing_else_changes_for_it_or_for_the_machine(
    folder: Path, user: int
) -> None:
    command = command_as(user)
    stage = folder / "stage"
    stage.mkdir()
    if why := namespaces.why_impossible(str(stage)):
        pytest.skip(why)
    files, beside = folder / "volumes" / "v", folder / "shared"
    for made in (files, beside / "mine"):
        made.mkdir(parents=True)
    for made in (folder, stage, files):
        os.chown(made, user, user)
    places = ["/flash-view", "/flash-view-deep/er", str(beside / "new")]
    facts: dict[str, Any] = {
        "source": str(Path(runpod_flash.__file__).parents[1]), "files": str(files), "places": places,
        "hidden": str(folder / "volumes"), "stage": str(stage), "beside": str(beside),
    }  # fmt: skip
    done = subprocess.run([*command, "-c", PROGRAM.format(**facts)], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    assert seen["ids"] == [user, user] if user == NOBODY else [os.getuid(), os.getgid()]
    assert set(seen["tops"]) == {*os.listdir("/"), "flash-view", "flash-view-deep"}
    assert (seen["hidden"], seen["stage"], sorted(seen["beside"])) == ([], [], ["mine", "new"])
    assert (files / "who").read_text().splitlines() == places
    assert not [place for place in places if Path(place).exists()]
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def test_whether_it_can_be_done_is_told_without_a_trace(folder: Path) -> None:
    why = namespaces.why_impossible(str(folder / "missing"))
    assert "missing" in why
    namespaces.why_impossible(str(folder))
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
