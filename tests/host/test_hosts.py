"""What becomes of workers where their host, its machine or their environment is not as it should be."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from runpod_flash.wire.messages import Beat, BeatOk, Exited, Launch, ListEnvs, Log, Ready, Rows, Span, Stop
from tests.host.conftest import RUNTIME, Machine, processes_in


def add(a: int, b: int) -> int:
    return a + b


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_a_machine_without_memory_loses_the_biggest_worker_not_the_engine(machine: Machine) -> None:
    def hoard() -> None:
        import time

        kept = b"x" * 100_000_000
        print("has", len(kept))
        time.sleep(1000)

    machine.start_altered(
        "from runpod_flash.host import guard, machine\n"
        "from pathlib import Path\n"
        f"guard.Guard.__init__.__defaults__ = (lambda: 0.01 if Path('{machine.rundir}/tight').exists() else 1.0,)"
    )
    environment = machine.build().path
    small, big = machine.worker(environment), machine.worker(environment)
    machine.submit(big, hoard)
    machine.engine.expect(Log)
    (machine.rundir / "tight").touch()
    gone = machine.engine.expect(Exited)
    (machine.rundir / "tight").unlink()
    assert (gone.worker, gone.why, gone.oom) == (big, "memory", True)
    assert machine.call(small, add, 1, 1).ok


def test_cards_that_a_worker_did_not_get_are_hidden_from_it(machine: Machine) -> None:
    def look() -> None:
        import os

        print(os.environ["CUDA_VISIBLE_DEVICES"])

    cards = "[(0, 'A', 1000), (1, 'B', 1000)]"
    machine.start_altered(f"from runpod_flash.host import machine\nmachine.find_gpus = lambda: ({cards}, '')")
    environment = machine.build().path
    for gpus, seen in (([1, 0], "1,0"), ([], "")):
        worker = machine.worker(environment, gpus=gpus)
        machine.call(worker, look, job=f"on-{worker}")
        assert machine.lines(machine.engine.expect(Span)) == [seen]


def test_an_environment_that_cannot_fork_is_executed(machine: Machine, environment: str) -> None:
    # A thread at start-up makes the zygote unsafe, as a library with a thread pool would.
    site = next(Path(environment).glob("lib/python*/site-packages"))
    (site / "busy.pth").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    )
    launched = machine.launch(environment)
    assert launched.how == "exec", launched
    machine.engine.until(lambda: machine.heard(launched.worker, Ready))
    assert machine.call(launched.worker, add, 1, 2).ok
    machine.engine.send(Stop(worker=launched.worker))
    assert machine.engine.expect(Exited).why == "stop"


def test_a_broken_environment_says_what_python_said(machine: Machine, environment: str) -> None:
    config = Path(environment) / "pyvenv.cfg"
    binary = Path(environment) / "bin" / "python"
    binary.unlink()
    binary.write_text("#!/bin/sh\necho this python is broken >&2; exit 3\n")
    binary.chmod(0o755)
    assert config.exists()
    launched = machine.launch(environment)
    if "broken" not in launched.error:  # the zygote that was started for the environment is still good
        launched = machine.launch(environment, variables={**machine.variables, "LD_LIBRARY_PATH": "/nowhere"})
    assert "this python is broken" in launched.error


def test_beats_name_the_workers_and_stale_ones_are_ended(machine: Machine) -> None:
    machine.engine.beat_ms = 100
    machine.start()
    environment = machine.build().path
    worker = machine.worker(environment)
    beat = machine.engine.expect(Beat, lambda beat: bool(beat.workers))
    name, rss, _cpu = beat.workers[0]
    assert name == worker
    assert rss > 1000
    machine.engine.send(BeatOk(stale=[worker]))
    assert machine.engine.expect(Exited).worker == worker


def test_the_host_ends_everything_when_told(machine: Machine, environment: str) -> None:
    host = machine.host
    assert host is not None
    worker = machine.worker(environment)
    machine.submit(worker, sleep, 1000)
    pids = processes_in(host.pid)
    assert machine.stop() == 0
    for pid in pids:
        assert not Path(f"/proc/{pid}/exe").exists()
    assert not list((machine.rundir / "workers").iterdir())


def test_a_host_that_leaves_while_workers_are_being_started_starts_and_leaves_none(
    machine: Machine, environment: str, tmp_path: Path
) -> None:
    host = machine.host
    assert host is not None
    machine.worker(environment)
    zygote = next(pid for pid in processes_in(host.pid) if "zygote.py" in _command(pid))
    os.kill(zygote, signal.SIGSTOP)
    python, again = Path(environment) / "bin" / "python", tmp_path / "started"
    python.rename(python.with_name("real"))
    python.write_text(f'#!/bin/sh\ntouch {again}\nexec {python.with_name("real")} "$@"\n')
    python.chmod(0o755)
    for name in ("a", "b", "c"):
        order = Launch(worker=name, key="k", endpoint="test", env=environment, runtime=RUNTIME)
        machine.engine.send(order)
    machine.engine.expect(Rows, sid=machine.engine.send(ListEnvs()))  # so it has read those before
    assert machine.stop() == 0
    assert not again.exists()
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and environment in _command(int(pid))] == []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_workers_die_with_a_killed_host_and_the_next_one_reports_them(machine: Machine, environment: str) -> None:
    def hold() -> None:
        import subprocess
        import time

        subprocess.Popen(["setsid", "sleep", "1005"])
        print("holding")
        time.sleep(1000)

    host = machine.host
    assert host is not None
    worker = machine.worker(environment)
    machine.submit(worker, hold, job="lost")
    machine.engine.expect(Log)
    pids = processes_in(host.pid)
    os.kill(host.pid, signal.SIGKILL)
    machine.wait_for_end()
    machine.start()
    gone = machine.engine.expect(Exited)
    assert (gone.worker, gone.why) == (worker, "host")
    assert gone.current is not None
    assert gone.current.job == "lost"
    machine.engine.until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids))
    machine.engine.until(lambda: not list((machine.rundir / "workers").iterdir()))


DIES_WHILE_IT_REMOVES = """
import functools, os
steps = [{steps}]
def mortal(works, path, *more, **named):
    if "/workers/" in str(path):
        if not steps[0]:
            os.kill(os.getpid(), 9)
        steps[0] -= 1
    return works(path, *more, **named)
for name in ("rename", "unlink", "rmdir"):
    # A function would be a method where pathlib has it, on Python 3.10.
    setattr(os, name, functools.partial(mortal, getattr(os, name)))
"""


@pytest.mark.parametrize("steps", range(4))
def test_a_host_killed_while_it_removes_a_workers_folder_leaves_nobody_to_say_that_nothing_had_begun(
    machine: Machine, steps: int
) -> None:
    machine.start_altered(DIES_WHILE_IT_REMOVES.format(steps=steps))
    machine.engine.acknowledges = False
    worker = machine.worker(machine.build().path)
    machine.submit(worker, os._exit, 3)
    assert machine.host is not None
    machine.wait_for_end()
    told = machine.engine.pending(Exited)
    machine.start()
    told += machine.engine.pending(Exited)
    # One that had begun nothing would give its job back, to run once more without an attempt on record.
    assert [exited.current.job if exited.current else "" for exited in told] == ["job1"] * len(told)
    assert told


SLOW_AND_ALONE = """
import pathlib, time
from runpod_flash.host import main
works = main.become_subreaper
def slow():
    pathlib.Path({there!r}).touch()
    time.sleep(0.5)
    return works()
main.become_subreaper = slow
main.EngineStarter.start = lambda self: pathlib.Path({started!r}).touch()
"""


def test_a_host_that_is_told_to_leave_before_it_has_found_an_engine_starts_none(machine: Machine) -> None:
    """The engine told it and left, and that nobody is there is no death then."""
    there, started = machine.rundir / "there", machine.rundir / "started"
    machine.engine.go()
    host = machine.spawn_altered(SLOW_AND_ALONE.format(there=str(there), started=str(started)))
    machine.engine.until(there.exists)
    os.kill(host.pid, signal.SIGTERM)
    assert machine.wait_for_end() == 0
    assert not started.exists()
