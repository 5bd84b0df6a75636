"""What is left when it is over: nothing. And what was promised by the settings, kept to the end."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.disasters import program
from tests.disasters.scene import Scene, lives, set_up, written
from tests.waiting import until

STRAY = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
time.sleep(600)
"""


def all_of(scene: Scene) -> list[psutil.Process]:
    """Engine, host, zygote, workers, and what they started."""
    engine = psutil.Process(scene.engine_pid)
    return [engine, *engine.children(recursive=True), *scene.engine.processes()]


def nothing_is_left(scene: Scene, before: list[psutil.Process]) -> None:
    until(lambda: not any(lives(one) for one in before))
    assert not any(is_zombie_of_ours(one) for one in before), "whoever started it has not waited for it"
    assert [one.cmdline() for one in scene.engine.processes()] == []
    left = [path for path in scene.engine.run_folder.rglob("*") if path.name not in ("engine.lock", "start.lock")]
    assert left in ([], [scene.engine.run_folder / "workers"])
    assert not (scene.home / "engine.json").exists()


def is_zombie_of_ours(process: psutil.Process) -> bool:
    """Ended, and still in the table because of somebody who is not the system's own first process."""
    try:
        return process.is_running() and process.ppid() != 1
    except psutil.Error:
        return False


def test_after_flash_engine_stop_nothing_is_left(scene: Scene) -> None:
    begun, go = scene.file("begun"), scene.file("go")
    running = scene.start("call", "hold", begun, go)
    written(begun)
    assert program.echo.sync("x").output == "x"
    before = all_of(scene)
    assert len({one.pid for one in before}) >= 4
    assert scene.flash("engine", "stop", "--grace", "0").out.startswith("engine ")
    nothing_is_left(scene, before)
    running.kill()
    running.communicate()


def test_after_an_idle_stop_nothing_is_left(tmp_path: Path) -> None:
    with set_up(tmp_path, FLASH_IDLE_STOP="1") as scene:
        assert scene.run("call", "echo", "x").result[3] == "COMPLETED"
        before = all_of(scene)
        nothing_is_left(scene, before)
        assert "left (idle)" in (scene.home / "engine.log").read_text()
        assert scene.run("call", "echo", "again").result[4] == "again"


def test_an_adopted_host_and_its_workers_end_with_a_stop_too(scene: Scene) -> None:
    assert program.echo.sync("x").output == "x"
    scene.kill_engine()
    assert program.echo.sync("y").output == "y"
    before = [*all_of(scene), psutil.Process(scene.host_pid)]
    scene.flash("engine", "stop")
    nothing_is_left(scene, before)


def test_what_a_worker_has_put_into_the_background_ends_with_it(scene: Scene) -> None:
    script = scene.folder / "stray.py"
    script.write_text(STRAY)
    pid = asyncio.run(stray(str(script)))
    assert pid > 0
    before = all_of(scene)
    scene.flash("engine", "stop")
    nothing_is_left(scene, before)
    assert [one for one in psutil.process_iter(["cmdline"]) if str(script) in (one.info["cmdline"] or ())] == []


async def stray(script: str) -> int:
    return (await program.daemonize(script)).unwrap()


def test_a_host_that_is_killed_right_before_a_stop_leaves_nothing(scene: Scene) -> None:
    assert program.echo.sync("x").output == "x"
    before = all_of(scene)
    os.kill(scene.host_pid, 9)
    scene.flash("engine", "stop")
    nothing_is_left(scene, before)


# ── promises ──────────────────────────────────────────────────────────────────────────────────────


def test_with_durability_power_everything_works_and_survives(tmp_path: Path) -> None:
    with set_up(tmp_path, FLASH_DURABILITY="power") as scene:
        assert scene.status()["durability"] == "power"
        begun, go = scene.file("begun"), scene.file("go")
        spawned = scene.run("spawn", "hold", begun, go).out.strip()
        written(begun)
        large = os.urandom(2_000_000)
        assert program.echo.sync(large).output == large
        scene.kill_engine()
        assert scene.status()["durability"] == "power"
        go.touch()
        assert scene.ended(spawned)["status"] == "COMPLETED"
        assert [job.output for job in program.echo.sync.map(range(50))] == list(range(50))


@pytest.mark.parametrize("seed", range(3))
def test_max_retries_0_starts_at_most_once_whenever_the_engine_is_killed(shared: Scene, seed: int) -> None:
    """The engine dies somewhere between submit and result, wherever that is this time."""
    rand = random.Random(seed)
    files = [(shared.file("begun"), shared.file("go")) for _ in range(6)]

    async def main() -> list[str]:
        calls = [asyncio.ensure_future(program.hold_once(str(begun), str(go))) for begun, go in files]
        await asyncio.sleep(rand.uniform(0.0, 0.05))
        for _, go in files[:3]:
            go.touch()
        await asyncio.to_thread(kill_all, shared, "runpod_flash.daemon")
        await asyncio.sleep(rand.uniform(0.0, 0.3))
        await asyncio.to_thread(kill_all, shared, "runpod_flash.host")
        for _, go in files:
            go.touch()
        return [(await call).status for call in calls]

    ends = asyncio.run(main())
    for (begun, _go), end in zip(files, ends, strict=True):
        starts = len(begun.read_text().splitlines()) if begun.exists() else 0
        assert starts <= 1
        assert end in ("COMPLETED", "FAILED")
        assert starts == 1 or end == "FAILED"


def kill_all(scene: Scene, word: str) -> None:
    for one in scene.having(word):
        one.kill()


def test_a_fresh_interpreter_that_only_imports_starts_nothing(scene: Scene) -> None:
    subprocess.run([sys.executable, "-c", "import tests.disasters.program"], check=True, cwd=Path(__file__).parents[2])
    assert scene.engine.processes() == []
    assert not scene.home.exists()
