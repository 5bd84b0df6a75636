from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from runpod_flash.wire.messages import Beat, BeatOk, Exited, Launch, ListEnvs, Log, Ready, Rows, Span, Stop
from tests.host.conftest import RUNTIME, Machine, processes_in


@pytest.fixture
def environment(machine: Machine) -> str:
    machine.start()
    state = machine.build()
    assert state.phase == "ready", state.error
    return state.path


def add(a: int, b: int) -> int:
    return a + b


def test_a_worker_is_forked_runs_a_call_and_leaves_no_trace(machine: Machine, environment: str) -> None:
    launched = machine.launch(environment)
    assert launched.error == ""
    assert launched.how == "fork"
    machine.engine.until(lambda: machine.heard("w1", Ready))
    assert machine.heard("w1", Ready)[0].fresh
    assert machine.call("w1", add, 2, 3).ok
    machine.engine.send(Stop(worker="w1", grace_ms=1000))
    gone = machine.engine.expect(Exited)
    assert gone.why == "stop"
    assert gone.current is not None  # over, but the engine may not have heard so
    assert gone.peak_rss_kb > 1000
    machine.engine.until(lambda: not list((machine.rundir / "workers").iterdir()))


def test_the_second_worker_is_ready_within_milliseconds(machine: Machine, environment: str) -> None:
    machine.worker(environment)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        machine.worker(environment)
        times.append((time.perf_counter() - began) * 1000)
    assert min(times) < 50, times


def test_a_worker_sees_what_it_was_given_and_nothing_of_the_host(machine: Machine, environment: str) -> None:
    def look() -> None:
        import json
        import os
        import sys
        import tempfile

        seen = {"env": dict(os.environ), "prefix": sys.prefix, "umask": os.umask(0o022), "tmp": tempfile.mkdtemp()}
        print(json.dumps(seen))

    worker = machine.worker(environment, variables={**machine.variables, "GIVEN": "yes"})
    machine.call(worker, look)
    seen = json.loads(machine.lines(machine.engine.expect(Span))[0])
    assert seen["env"]["GIVEN"] == "yes"
    assert seen["env"]["PATH"].startswith(environment)
    assert not {"FLASH_ZYGOTE", "CUDA_VISIBLE_DEVICES", "PYTHONDONTWRITEBYTECODE"} & seen["env"].keys()
    assert seen["prefix"] == environment
    assert seen["umask"] == 0o022
    assert seen["tmp"].startswith(f"{machine.rundir}/workers/{worker}/tmp/")


def test_what_a_call_prints_comes_line_by_line_and_is_found_in_the_files(machine: Machine, environment: str) -> None:
    def speak() -> None:
        import os
        import subprocess
        import sys

        print("one")
        print("two", file=sys.stderr)
        os.write(1, b"bare \xff\0 bytes\n")
        subprocess.run(["sh", "-c", "echo from a child; printf 'no end'"], check=True)

    worker = machine.worker(environment)
    assert machine.call(worker, speak, job="talker").logs
    span = machine.engine.expect(Span)
    expected = {"one", "two", "bare \ufffd\0 bytes", "from a child", "no end"}
    assert set(machine.lines(span)) == expected
    assert span.lines == 5
    logs = machine.engine.pending(Log)
    assert {line for log in logs for line in log.lines} == expected
    assert {(log.job, log.attempt, log.worker) for log in logs} == {("talker", 1, worker)}
    assert min(log.n for log in logs) == 0


def test_two_calls_one_after_the_other_keep_their_lines_apart(machine: Machine, environment: str) -> None:
    def speak(word: str, count: int) -> None:
        import os

        for number in range(count):
            print(word, number)
            os.write(2, f"bare {word} {number}\n".encode())

    worker = machine.worker(environment)
    for job, word in (("a", "first"), ("b", "second"), ("c", "third")):
        machine.call(worker, speak, word, 50, job=job)
        span = machine.engine.expect(Span, lambda span, job=job: span.job == job)  # type: ignore[misc]
        lines = machine.lines(span)
        assert len(lines) == 100
        assert all(word in line for line in lines)


def test_a_silent_call_has_no_span(machine: Machine, environment: str) -> None:
    worker = machine.worker(environment)
    assert not machine.call(worker, add, 1, 2).logs
    assert not machine.engine.pending(Span)


def test_a_flood_is_cut_with_a_notice_and_the_worker_goes_on(machine: Machine, environment: str) -> None:
    def flood() -> None:
        for _ in range(400):
            print("x" * 999 + "\n" * 1, end="" if _ % 2 else "\n")
            print("y" * 100_000)

    worker = machine.worker(environment)
    assert machine.call(worker, flood).ok
    spans = [machine.engine.expect(Span)]
    assert spans[0].cut
    lines = machine.lines(spans[0])
    assert any("output cut" in line for line in lines)
    assert max(len(line) for line in lines) < 70_000
    assert any(line.endswith("[line cut]") for line in lines)


def test_a_crash_is_reported_with_its_signal_its_job_and_its_last_lines(machine: Machine, environment: str) -> None:
    def crash() -> None:
        import os
        import signal

        print("about to end")
        os.write(2, b"bare last words")
        os.kill(os.getpid(), signal.SIGSEGV)

    worker = machine.worker(environment)
    machine.submit(worker, crash, job="unlucky")
    gone = machine.engine.expect(Exited)
    assert gone.signal == signal.SIGSEGV
    assert gone.why == ""
    assert gone.current is not None
    assert (gone.current.job, gone.current.epoch, gone.current.attempt) == ("unlucky", 1, 1)
    assert "about to end" in gone.last_lines
    span = machine.engine.expect(Span)
    assert {"about to end"} <= set(machine.lines(span))


def test_an_exit_code_is_reported(machine: Machine, environment: str) -> None:
    def leave() -> None:
        import os

        os._exit(37)

    worker = machine.worker(environment)
    machine.submit(worker, leave)
    gone = machine.engine.expect(Exited)
    assert (gone.code, gone.signal, gone.oom) == (37, None, False)


def test_a_worker_killed_from_outside_is_an_unasked_end(machine: Machine, environment: str) -> None:
    launched = machine.launch(environment)
    os.kill(launched.pid, signal.SIGKILL)
    gone = machine.engine.expect(Exited)
    assert (gone.signal, gone.why, gone.current) == (signal.SIGKILL, "", None)


def test_all_that_a_worker_started_ends_with_it(machine: Machine, environment: str) -> None:
    def breed() -> None:
        import os
        import subprocess
        import time

        subprocess.Popen(["sleep", "1000"])
        subprocess.Popen(["setsid", "sleep", "1001"])
        subprocess.Popen(["sh", "-c", "setsid sleep 1002 & exit 0"])
        subprocess.Popen(["env", "-i", "sh", "-c", "setsid sleep 1003 & exit 0"])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1004)
            os._exit(0)
        time.sleep(0.5)
        print("bred", flush=True)
        time.sleep(1000)

    host = machine.host
    assert host is not None
    worker = machine.worker(environment)
    machine.submit(worker, breed)
    machine.engine.expect(Log, lambda log: "bred" in log.lines)
    bred = processes_in(host.pid)
    assert len(bred) >= 7
    machine.engine.send(Stop(worker=worker))
    machine.engine.expect(Exited)
    zygotes_only = 1
    machine.engine.until(lambda: len(processes_in(host.pid)) == zygotes_only)


def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(machine: Machine, environment: str) -> None:
    def stubborn() -> None:
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready")
        while True:
            time.sleep(1)

    worker = machine.worker(environment)
    machine.submit(worker, stubborn)
    machine.engine.expect(Log)
    began = time.monotonic()
    machine.engine.send(Stop(worker=worker, grace_ms=300))
    gone = machine.engine.expect(Exited)
    assert gone.signal == signal.SIGKILL
    assert gone.why == "stop"
    assert time.monotonic() - began >= 0.3


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def test_the_host_kills_at_deadline_and_grace_by_itself(machine: Machine, environment: str) -> None:
    worker = machine.worker(environment)
    began = time.monotonic()
    machine.submit(worker, sleep, 1000, timeout_ms=200)
    gone = machine.engine.expect(Exited)
    assert gone.why == "deadline"
    assert gone.current is not None
    assert 5 < time.monotonic() - began < 7


def test_a_worker_above_its_memory_limit_costs_itself_only(machine: Machine, environment: str) -> None:
    def eat() -> None:
        import time

        hoard = []
        while True:
            hoard.append(bytearray(b"x") * 20_000_000)
            time.sleep(0.02)

    other = machine.worker(environment)
    worker = machine.worker(environment, memory_mb=200)
    machine.submit(worker, eat)
    gone = machine.engine.expect(Exited)
    assert (gone.worker, gone.why, gone.oom) == (worker, "memory", True)
    assert gone.peak_rss_kb > 150_000
    assert machine.call(other, add, 1, 1).ok


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


def test_a_dead_zygote_costs_its_workers_nothing_and_the_next_launch_little(machine: Machine, environment: str) -> None:
    host = machine.host
    assert host is not None
    first = machine.worker(environment)
    pids = processes_in(host.pid)
    zygote = next(pid for pid in pids if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(zygote, signal.SIGKILL)
    assert machine.call(first, add, 1, 2).ok
    second = machine.launch(environment)
    assert second.error == ""
    machine.engine.until(lambda: machine.heard(second.worker, Ready))


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


def test_an_environment_that_is_gone_is_named(machine: Machine, environment: str) -> None:
    assert "/nowhere" in machine.launch("/nowhere").error


def test_stop_of_an_unknown_worker_is_answered(machine: Machine, environment: str) -> None:
    machine.engine.send(Stop(worker="w999"))
    assert machine.engine.expect(Exited).worker == "w999"


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


def test_twenty_workers_come_and_go_and_nobody_is_left(machine: Machine, environment: str) -> None:
    host = machine.host
    assert host is not None
    workers = [machine.worker(environment) for _ in range(20)]
    for worker in workers:
        machine.submit(worker, sleep, 1000)
    for worker in workers:
        machine.engine.send(Stop(worker=worker))
    gone = {machine.engine.expect(Exited).worker for _ in workers}
    assert gone == set(workers)
    machine.engine.until(lambda: len(processes_in(host.pid)) == 1)
    descriptors = len(list(Path(f"/proc/{host.pid}/fd").iterdir()))
    assert descriptors < 25


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
import os
steps = [{steps}]
def mortal(works):
    def act(path, *more, **named):
        if "/workers/" in str(path):
            if not steps[0]:
                os.kill(os.getpid(), 9)
            steps[0] -= 1
        return works(path, *more, **named)
    return act
for name in ("rename", "unlink", "rmdir"):
    setattr(os, name, mortal(getattr(os, name)))
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
