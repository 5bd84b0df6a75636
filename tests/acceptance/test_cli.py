"""The command line over a real engine, a real host and real workers: one story, told by what a person types."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import until

SCRIPT = """
import asyncio, sys
from runpod_flash import CpuLiveServerless, remote

cpu = CpuLiveServerless(name="cpu", workersMax=2)

@remote(cpu)
async def greet(name):
    print("hello", name)
    return f"hello {name}"

@remote(cpu, max_retries=0)
async def fails(path):
    import os
    if not os.path.exists(path):
        raise ValueError("not there yet")
    return "there now"

@remote(cpu)
async def counts(last):
    import asyncio
    for n in range(int(last)):
        print("count", n)
        await asyncio.sleep(0.1)

async def main(verb, name, argument):
    function = {"greet": greet, "fails": fails, "counts": counts}[name]
    job = await (function(argument) if verb == "call" else function.spawn(argument))
    print(job.id)

asyncio.run(main(*sys.argv[1:]))
"""


class Machine:
    """A machine with one data folder, one script, and `flash`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.script = folder / "script.py"
        self.script.write_text(SCRIPT)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLASH_")}
        self.environ = {**inherited, "FLASH_HOME": str(self.home), "NO_COLOR": "1"}

    def run(self, *args: str) -> str:
        """Runs the script (call or spawn, which function, with what); the id of its job."""
        command = [sys.executable, str(self.script), *args]
        ended = subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()[-1]

    def start_flash(self, *args: str) -> subprocess.Popen[str]:
        """`flash` beside the test."""
        return subprocess.Popen(
            [sys.executable, "-c", "from runpod_flash.cli.main import main; main()", *args],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def flash(self, *args: str, code: int = 0) -> str:
        """What `flash` says on stdout; it has to end with `code`."""
        with self.start_flash(*args) as running:
            out, err = running.communicate(timeout=60)
        assert running.returncode == code, f"flash {' '.join(args)}\n{out}\n{err}"
        return out

    def begun(self, job: str) -> None:
        """Waits for the first line that a job prints."""
        with self.start_flash("logs", job, "-f") as following:
            assert following.stdout is not None
            assert following.stdout.readline()
            following.kill()

    def ended(self, job: str) -> Any:
        """Waits for the end of a job; its facts."""
        self.flash("logs", job, "-f")
        return self.facts("job", job)

    def facts(self, *args: str, code: int = 0) -> Any:
        """The same in JSON."""
        return json.loads(self.flash(*args, "--json", code=code))


@contextlib.contextmanager
def new_machine(folder: Path) -> Iterator[Machine]:
    """A machine of which nothing is left."""
    made = Machine(folder)
    yield made
    made.flash("engine", "stop", "--grace", "0")
    left = [process for process in psutil.process_iter(["cmdline"]) if _mentions(process, made.home)]
    assert [process.info["cmdline"] for process in left] == []


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with new_machine(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One machine for the tests that need no other job to be there than theirs."""
    with new_machine(tmp_path_factory.mktemp("shared")) as made:
        yield made


def _mentions(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in process.info["cmdline"] or ())


def test_a_job_can_be_found_looked_at_and_read(shared: Machine) -> None:
    job = shared.run("call", "greet", "world")

    assert [row["job"] for row in shared.facts("jobs", "--status", "COMPLETED", "--function", "greet")] == [job]
    assert shared.flash("jobs").splitlines()[1].split()[:4] == [job, "COMPLETED", "script.py:greet", "cpu"]
    assert shared.flash("logs", job[-8:]) == "hello world\n"
    page = shared.facts("job", job[-8:])
    assert (page["status"], page["attempts"], page["error_info"]) == ("COMPLETED", 1, None)
    assert page["timing"]["run"] > 0
    assert [one["end"] for one in page["attempts_list"]] == ["completed"]
    story = shared.flash("job", job)
    assert "where the time went" in story
    assert shared.flash("job", "ffff0000", code=3) == ""


def test_a_failure_is_told_with_its_traceback_and_can_be_tried_again(shared: Machine) -> None:
    missing = shared.folder / "missing"
    job = shared.run("call", "fails", str(missing))

    assert shared.facts("jobs", "--status", "FAILED")[0]["error"] == "ValueError: not there yet"
    story = shared.flash("job", job)
    assert "ValueError: not there yet" in story
    assert "script.py" in story
    assert "raise ValueError" in story

    missing.touch()
    assert shared.flash("retry", job[-6:]) == f"{job}\n"
    assert shared.ended(job)["status"] == "COMPLETED"
    assert shared.flash("retry", job, code=1) == ""


def test_output_is_followed_over_the_death_of_the_engine(shared: Machine) -> None:
    job = shared.run("spawn", "counts", "30")
    with shared.start_flash("logs", job, "-f") as following:
        assert following.stdout is not None
        seen = [following.stdout.readline() for _ in range(3)]
        psutil.Process(shared.facts("engine", "status")["pid"]).kill()
        seen += following.stdout.readlines()
    assert following.returncode == 0
    assert seen == [f"count {n}\n" for n in range(30)]
    assert shared.facts("job", job)["attempts"] == 1


def test_the_output_of_an_endpoint_is_followed_over_the_death_of_the_engine(machine: Machine) -> None:
    done = machine.run("call", "greet", "world")
    assert machine.flash("logs", "--endpoint", "cpu") == f"{done}  hello world\n"
    job = machine.run("spawn", "counts", "30")
    with machine.start_flash("logs", "--endpoint", "cpu", "--since", "1h", "-f") as following:
        assert following.stdout is not None
        seen = [following.stdout.readline() for _ in range(4)]
        psutil.Process(machine.facts("engine", "status")["pid"]).kill()
        seen += [following.stdout.readline() for _ in range(27)]
        following.send_signal(signal.SIGINT)
        following.wait(20)
    assert following.returncode == 130
    assert seen == [f"{done}  hello world\n", *(f"{job}  count {n}\n" for n in range(30))]


def test_what_waits_can_be_purged_and_what_has_ended_forgotten(machine: Machine) -> None:
    running = [machine.run("spawn", "counts", "1000") for _ in range(2)]
    for job in running:
        machine.begun(job)
    waiting = [machine.run("spawn", "greet", name) for name in ("a", "b", "c")]
    until(lambda: machine.facts("ps")[0]["waits"])
    assert machine.facts("ps")[0]["waits"]["code"] == "workers_max"
    assert machine.facts("purge", "--endpoint", "cpu", "--dry-run")["jobs"] == 3
    machine.flash("purge", "--endpoint", "cpu", code=2)  # nobody can be asked here
    assert machine.flash("purge", "--endpoint", "cpu", "--yes") == "cancelled 3 jobs\n"
    assert {row["job"] for row in machine.facts("jobs", "--status", "cancelled")} == set(waiting)
    assert {row["job"] for row in machine.facts("jobs", "--running")} == set(running)
    assert machine.facts("purge", "--ended", "--yes")["by_status"] == {"CANCELLED": 3}
    assert {row["job"] for row in machine.facts("jobs")} == set(running)


def test_a_running_job_can_be_seen_and_cancelled(shared: Machine) -> None:
    job = shared.run("spawn", "counts", "1000")
    shared.begun(job)

    (endpoint,) = shared.facts("ps")
    assert (endpoint["name"], endpoint["running"]) == ("cpu", 1)
    assert job in [worker["job"] for worker in endpoint["workers"]]
    assert job in shared.flash("ps")

    assert shared.flash("cancel", job[-8:]) == f"{job}\n"
    assert shared.ended(job)["status"] == "CANCELLED"
    assert shared.flash("cancel", job, code=1) == ""


def test_the_engine_can_be_started_looked_at_and_stopped(machine: Machine) -> None:
    assert machine.facts("engine", "status", code=4)["running"] is False
    started = machine.facts("engine", "start")
    assert started["started"] is True
    assert machine.facts("engine", "start")["started"] is False
    status = machine.facts("engine", "status")
    assert (status["pid"], status["data_dir"]) == (started["pid"], str(machine.home))
    assert Path(status["socket"]).is_socket()
    assert machine.facts("engine", "restart")["pid"] != started["pid"]
    machine.flash("engine", "stop")
    assert machine.facts("engine", "status", code=4)["pid"] is None
    assert machine.flash("engine", "stop") == ""


def test_a_restart_does_not_disturb_what_runs(shared: Machine) -> None:
    job = shared.run("spawn", "counts", "20")
    shared.begun(job)
    running = shared.facts("job", job)
    shared.flash("engine", "restart")
    page = shared.ended(job)
    assert (page["status"], page["attempts"], page["worker"]) == ("COMPLETED", 1, running["worker"])


def test_what_waits_or_runs_goes_on_after_a_stop(machine: Machine) -> None:
    job = machine.run("spawn", "counts", "20")
    machine.begun(job)
    machine.flash("engine", "stop", "--grace", "0")
    page = machine.ended(job)
    assert (page["status"], page["losses"]) == ("COMPLETED", 0)


def test_environments_are_listed_and_removed(machine: Machine) -> None:
    machine.run("call", "greet", "world")
    (environment,) = machine.facts("deps", "ls")
    assert (environment["requirements"], environment["state"]) == ([], "ready")
    machine.flash("deps", "prune")
    assert len(machine.facts("deps", "ls")) == 1
    machine.flash("engine", "stop")  # with its workers, which keep an environment in use
    assert machine.facts("deps", "prune", "--all")["removed"] == [environment["id"]]
    assert machine.facts("deps", "ls") == []
    assert machine.run("call", "greet", "again")


def test_history_can_be_read_when_nothing_runs(machine: Machine) -> None:
    job = machine.run("call", "greet", "world")
    machine.flash("engine", "stop")
    assert [row["job"] for row in machine.facts("jobs")] == [job]
    assert machine.flash("logs", job) == "hello world\n"
