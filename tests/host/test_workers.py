"""Workers of one host: how they start, what they are seen to do, and how they end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.wire.messages import Exited, Log, Ready, Span, Stop
from tests.host.conftest import Machine, new_machine, processes_in


@pytest.fixture(scope="module")
def shared() -> Iterator[Machine]:
    """One host for all these tests."""
    with new_machine() as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def environment(shared: Machine) -> str:
    return shared.built()


@pytest.fixture
def machine(shared: Machine) -> Iterator[Machine]:
    """The host, without a worker."""
    yield shared
    shared.clear()


def add(a: int, b: int) -> int:
    return a + b


def test_a_worker_is_forked_runs_a_call_and_leaves_no_trace(machine: Machine, environment: str) -> None:
    launched = machine.launch(environment)
    assert launched.error == ""
    assert launched.how == "fork"
    machine.engine.until(lambda: machine.heard(launched.worker, Ready))
    assert machine.heard(launched.worker, Ready)[0].fresh
    assert machine.call(launched.worker, add, 2, 3).ok
    machine.engine.send(Stop(worker=launched.worker, grace_ms=1000))
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


def test_an_environment_that_is_gone_is_named(machine: Machine, environment: str) -> None:
    assert "/nowhere" in machine.launch("/nowhere").error


def test_stop_of_an_unknown_worker_is_answered(machine: Machine, environment: str) -> None:
    machine.engine.send(Stop(worker="w999"))
    assert machine.engine.expect(Exited).worker == "w999"


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
