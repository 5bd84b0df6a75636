"""Ctrl-C, in whatever phase: the job is cancelled unless it was spawned, and the program ends as programs do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.disasters.scene import Scene, line_of, written
from tests.disasters.slow_build import WITH_DEPENDENCIES, slow_package
from tests.waiting import until

INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)
NOT_USUAL = ("Exception ignored", "never retrieved", "never awaited", "Fatal", "RuntimeError", "CRITICAL", "Error:")


def interrupt(program: subprocess.Popen[str]) -> None:
    """What a terminal does: a signal to every process of the group."""
    os.killpg(program.pid, signal.SIGINT)


def ended(program: subprocess.Popen[str]) -> None:
    """It has ended as a program that was interrupted, without a word beyond Python's own."""
    _out, err = program.communicate(timeout=20)
    assert program.returncode in INTERRUPTED, err
    assert err.strip().splitlines()[-1].startswith("KeyboardInterrupt")
    assert [line for line in err.splitlines() if any(word in line for word in NOT_USUAL)] == []
    assert err.count("Traceback (most recent call last)") <= 2  # the cancellation, and what it came from


def job_of(scene: Scene, function: str) -> dict[str, Any]:
    """The newest job of a function that has not ended."""
    return until(lambda: [row for row in scene.jobs() if row["fn"].endswith(function) and not row["ended_at_ms"]])[0]


def test_while_the_engine_starts(scene: Scene) -> None:
    program = scene.start("call", "echo", "x")
    until(lambda: scene.having("runpod_flash.daemon"))
    interrupt(program)
    ended(program)
    scene.flash("engine", "start")
    assert [row["status"] for row in scene.jobs() if row["status"] not in ("CANCELLED", "COMPLETED")] == []


def test_while_the_environment_is_built(scene: Scene) -> None:
    begun, go = scene.file("begun"), scene.file("go")
    index = slow_package(scene.folder, begun, go) | {"XDG_CACHE_HOME": str(scene.home / "cache")}
    script = scene.folder / "built.py"
    script.write_text(WITH_DEPENDENCIES)
    program = scene.start(script=script, **index)
    written(begun)
    job = job_of(scene, "built")["job"]
    interrupt(program)
    ended(program)
    assert scene.ended(job)["status"] == "CANCELLED"
    until(lambda: not scene.having("uv"))


def test_while_it_waits_in_the_queue(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    first = shared.start("call", "hold_only", begun, go)
    written(begun)
    second = shared.start("call", "echo_only", "x")
    job = job_of(shared, "echo_only")["job"]
    interrupt(second)
    ended(second)
    told = shared.ended(job)
    assert (told["status"], told["attempts_list"]) == ("CANCELLED", [])
    go.touch()
    assert shared.end(first).result[3] == "COMPLETED"


@pytest.mark.parametrize(
    ("verb", "function"), [("call", "hold"), ("call", "hold_async"), ("sync", "hold"), ("sync", "hold_async")]
)
def test_while_it_runs(shared: Scene, verb: str, function: str) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    program = shared.start(verb, function, begun, go)
    pid = int(written(begun)[0])
    job = job_of(shared, function)["job"]
    interrupt(program)
    ended(program)
    assert shared.ended(job)["status"] == "CANCELLED"
    if function == "hold":
        until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_spawned_job_is_left_alone(shared: Scene) -> None:
    begun, go = shared.file("begun"), shared.file("go")
    program = shared.start("spawn-and-wait", "hold", begun, go)
    job = line_of(program)
    written(begun)
    interrupt(program)
    ended(program)
    assert shared.job(job)["status"] == "IN_PROGRESS"
    go.touch()
    assert shared.ended(job)["status"] == "COMPLETED"


@pytest.mark.parametrize("verb", ["call", "sync"])
def test_the_second_time_it_leaves_at_once(shared: Scene, verb: str) -> None:
    """The engine does not listen, so the first Ctrl-C has to be patient with it."""
    begun, go = shared.file("begun"), shared.file("go")
    program = shared.start(verb, "hold", begun, go)
    written(begun)
    job = job_of(shared, "hold")["job"]
    engine = shared.engine_pid
    os.kill(engine, signal.SIGSTOP)
    try:
        interrupt(program)
        time.sleep(0.1)  # two signals at the same moment are one
        began = time.monotonic()
        if program.poll() is None:
            interrupt(program)
        program.communicate(timeout=20)
        assert time.monotonic() - began < 1.5
        assert program.returncode in (*INTERRUPTED, 1)
    finally:
        os.kill(engine, signal.SIGCONT)
    go.touch()
    assert shared.ended(job)["status"] in ("CANCELLED", "COMPLETED")
