"""The engine has to start, or its data folder is not what it should be."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import runpod_flash
from runpod_flash.testing import isolated_engine
from runpod_flash.wire import rundir
from tests.disasters import program
from tests.disasters.scene import Scene, set_up, written
from tests.waiting import until

CALLERS = 100

HUNDRED = """
import asyncio, os, sys
import runpod_flash.client.calls  # once, not in each of a hundred
from tests.disasters.program import echo

def call(number):
    job = asyncio.run(echo.remote(number))
    os._exit(0 if job.output == number else 1)

children = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        call(number)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print("codes", *sorted(set(codes)))
"""


def test_a_hundred_programs_that_call_at_once_start_one_engine(scene: Scene) -> None:
    script = scene.folder / "hundred.py"
    script.write_text(HUNDRED)
    assert scene.run(str(CALLERS), script=script).out.split() == ["codes", "0"]
    assert scene.status()["start_no"] == 1
    assert len(scene.having("runpod_flash.daemon")) == 1
    assert (scene.home / "engine.log").read_text().count("listens at") == 1
    assert scene.status()["jobs"]["COMPLETED"] == CALLERS


def test_an_engine_that_is_killed_while_it_starts_is_started_again(scene: Scene) -> None:
    caller = scene.start("call", "echo", "x")
    first = until(lambda: scene.having("runpod_flash.daemon"))[0]
    first.kill()
    assert scene.end(caller).result[3:] == ["COMPLETED", "x"]
    assert scene.engine_pid != first.pid


def test_two_data_folders_are_two_engines(shared: Scene, tmp_path: Path) -> None:
    assert program.echo.sync(1).output == 1
    with set_up(tmp_path) as other:
        ended = other.run("call", "where")
        assert ended.result[3] == "COMPLETED"
        assert other.engine_pid != shared.engine_pid
        assert other.status()["data_dir"] != shared_status(shared)["data_dir"]
        assert [row["fn"] for row in other.jobs()] == ["program.py:where"]
    assert program.echo.sync(2).output == 2


def shared_status(scene: Scene) -> dict[str, object]:
    """Asked by `flash`, since the variables of this process name the other engine for now."""
    import json

    found: dict[str, object] = json.loads(scene.flash("engine", "status", "--json", FLASH_HOME=str(scene.home)).out)
    return found


@pytest.mark.parametrize("what", ["a stale socket", "a folder", "a file", "another's socket"])
def test_a_socket_that_is_none_of_ours_is_in_nobodys_way(scene: Scene, what: str) -> None:
    address = rundir.prepare(scene.home) / rundir.SOCKET
    listener = socket.socket(socket.AF_UNIX)
    if what in ("a stale socket", "another's socket"):
        listener.bind(str(address))
    elif what == "a folder":
        address.mkdir()
    else:
        address.write_text("no socket")
    if what == "another's socket":
        listener.listen()
        listener.close()
    try:
        assert program.echo.sync(what).output == what
    finally:
        listener.close()


def test_an_engine_json_that_is_garbage_is_in_nobodys_way(scene: Scene) -> None:
    scene.home.mkdir()
    facts = scene.home / "engine.json"
    facts.write_bytes(b"\xff\xfe{")
    assert program.echo.sync("x").output == "x"
    good = facts.read_text()
    for text in ("", "garbage \x00", "[]", '{"socket": 5}', '{"socket": "/nowhere/s", "pid": 1}'):
        facts.write_text(text)
        assert scene.run("call", "echo", "x").result[3:] == ["COMPLETED", "x"]
    facts.write_text(good)


def test_a_data_folder_with_a_very_long_path_works(tmp_path: Path) -> None:
    home = tmp_path / ("long-" * 30)[: max(20, 124 - len(str(tmp_path)))] / ("er-" * 10)
    assert len(str(home)) >= 120
    with set_up(tmp_path, home) as scene:
        assert program.echo.sync("x").output == "x"
        assert scene.status()["data_dir"] == str(home)


def test_a_data_folder_with_a_blank_and_an_umlaut_works(tmp_path: Path) -> None:
    with set_up(tmp_path, tmp_path / "my däta") as scene:
        assert program.echo.sync("x").output == "x"
        assert scene.engine_pid


NOBODY = 65534


def open_to_all(*files: str) -> bool:
    """Whether every folder on the way to these files can be entered by everybody."""
    folders = {folder for file in files for folder in (*Path(file).parents, *Path(os.path.realpath(file)).parents)}
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(not open_to_all(sys.executable, runpod_flash.__file__), reason="nobody else can run this Python")
def test_where_nothing_can_be_written_the_engine_is_a_part_of_the_program(tmp_path: Path) -> None:
    """Another user's folder, seen by a user who has hardly anything."""
    tmp_path.chmod(0o755)
    home = tmp_path / "roots"
    home.mkdir(mode=0o755)
    with set_up(tmp_path, home) as scene:
        script = tmp_path / "nobody.py"
        script.write_text(AS_NOBODY)
        ended = scene.run(script=script, HOME="/nonexistent")
    assert ended.out.split() == ["COMPLETED", "4"]
    (line,) = [line for line in ended.err.splitlines() if str(home) in line]
    assert "cannot be written" in line
    assert "Permission denied" in line
    assert list(home.iterdir()) == []
    until(lambda: not processes_of(NOBODY))


AS_NOBODY = f"""
import asyncio, os, sys
from runpod_flash import CpuLiveServerless, remote
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})

@remote(CpuLiveServerless(name="nobody"))
def double(x):
    return 2 * x

async def main():
    job = await double(2)
    print(job.status, job.output if job.error is None else job.error)

asyncio.run(main())
"""


def processes_of(uid: int) -> list[int]:
    import psutil

    return [one.pid for one in psutil.process_iter(["uids"]) if one.info["uids"] and one.info["uids"].real == uid]


def test_a_data_folder_below_proc_makes_the_engine_a_part_of_the_program(scene: Scene) -> None:
    ended = scene.run("call", "echo", "x", FLASH_HOME="/proc/nothing/here")
    assert ended.result[3:] == ["COMPLETED", "x"]
    assert len([line for line in ended.err.splitlines() if "/proc/nothing/here cannot be written" in line]) == 1
    assert "/proc/nothing/here" in scene.flash("jobs", code=4, FLASH_HOME="/proc/nothing/here").err


# ── another version ───────────────────────────────────────────────────────────────────────────────


def copy_of_the_package(folder: Path, version: str) -> Path:
    """Flash of another version, in a folder for PYTHONPATH."""
    package = Path(runpod_flash.__file__).parent
    shutil.copytree(package, folder / "runpod_flash", ignore=shutil.ignore_patterns("__pycache__"))
    mark = folder / "runpod_flash" / "_version.py"
    mark.write_text(f'"""Another."""\n\n__version__ = "{version}"\n')
    return folder


@pytest.fixture
def old(scene: Scene) -> tuple[Scene, subprocess.Popen[str], Path, Path, Path]:
    """An engine of an older version with a caller of its own, whose job runs; and the folder of that version."""
    folder = copy_of_the_package(scene.folder / "old", "0.0.1")
    begun, go = scene.file("begun"), scene.file("go")
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    caller = scene.start("call", "hold", begun, go, PYTHONPATH=path)
    written(begun)
    assert scene.status_of_running()["version"] == "0.0.1"
    return scene, caller, begun, go, folder


def test_an_older_engine_makes_room_and_its_running_job_survives(
    old: tuple[Scene, subprocess.Popen[str], Path, Path, Path],
) -> None:
    scene, caller, begun, go, _folder = old
    before = scene.engine_pid
    assert program.echo.sync("new").output == "new"
    assert scene.engine_pid != before
    assert scene.status()["version"] == runpod_flash.__version__
    go.touch()
    worker = written(begun)
    assert scene.end(caller).result[3:] == ["COMPLETED", *worker]
    assert len(worker) == 1, "it was not started again"


def test_an_engine_whose_package_was_deleted_makes_room_and_its_running_job_survives(
    old: tuple[Scene, subprocess.Popen[str], Path, Path, Path],
) -> None:
    scene, caller, _begun, go, folder = old
    shutil.rmtree(folder)
    assert program.echo.sync("new").output == "new"
    assert scene.status()["version"] == runpod_flash.__version__
    go.touch()
    (job,) = [row["job"] for row in scene.jobs() if row["fn"].endswith("hold")]
    assert scene.ended(job)["status"] == "COMPLETED"
    caller.kill()


def test_a_child_engine_ends_with_its_program_also_when_that_is_killed(scene: Scene) -> None:
    begun, go = scene.file("begun"), scene.file("go")
    caller = scene.start("call", "hold", begun, go, FLASH_ENGINE="child")
    written(begun)
    assert scene.engine_pid
    caller.kill()
    until(lambda: not scene.engine.processes())


def test_calls_inside_a_block_of_the_testing_room_have_an_engine_of_their_own() -> None:
    with isolated_engine() as engine:
        pid, _parent = asyncio.run(called())
        assert pid in engine.workers()
    assert not engine.home.exists()
    assert not engine.run_folder.exists()


async def called() -> tuple[int, int]:
    return (await program.where()).unwrap()
