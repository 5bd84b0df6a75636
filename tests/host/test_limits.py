"""Processors, ports and memory of workers: what each is given, and what becomes of one that wants more."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runpod_flash.host.groups import Groups, Place, find_places
from runpod_flash.host.loop import Loop
from runpod_flash.host.shares import Ports, Processors
from runpod_flash.wire.messages import Exited, Hello
from tests.host.conftest import Machine, processes_in
from tests.host.test_volumes import look


def where() -> None:
    import os
    import subprocess
    import sys

    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    print(json.dumps([sorted(os.sched_getaffinity(0)), json.loads(child)]))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_limited_workers_run_on_different_processors_and_so_does_all_they_start(
    machine: Machine, environment: str
) -> None:
    every = sorted(os.sched_getaffinity(0))
    workers = [machine.worker(environment, cpus=1) for _ in range(2)]
    assert [look(machine, worker, where) for worker in workers] == [[[one], [one]] for one in every[:2]]
    assert look(machine, machine.worker(environment), where) == [every, every]


def test_the_least_used_processors_are_lent_and_come_back() -> None:
    processors = Processors()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    short, long = ExitStack(), ExitStack()
    assert processors.lease(0.5, short) == [first]
    assert processors.lease(1, long) == [second]
    assert processors.lease(0.25, long) == [first]
    short.close()
    assert processors.lease(1, long) == [first]
    assert processors.lease(len(os.sched_getaffinity(0)), long) == []


def test_each_worker_is_told_ports_of_its_own_the_wanted_one_where_it_is_free(
    machine: Machine, environment: str
) -> None:
    def listen(wanted: int) -> None:
        import os
        import socket

        port = int(os.environ[f"RUNPOD_TCP_PORT_{wanted}"])
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
        print(json.dumps(port))

    with socket.socket() as probe:
        probe.bind(("", 0))
        wanted = probe.getsockname()[1]
    first = machine.launch(environment, ports=[wanted])
    second = machine.launch(environment, ports=[wanted])
    assert first.ports == [(wanted, wanted)]
    assert second.ports[0][1] not in (wanted, 0)
    machine.engine.until(lambda: second.worker in machine.engine.workers)
    assert look(machine, second.worker, listen, wanted) == second.ports[0][1]
    machine.engine.go()
    machine.engine.listen()
    told = machine.engine.expect(Hello).workers
    assert {one.worker: one.ports for one in told} == {first.worker: first.ports, second.worker: second.ports}


def test_a_port_that_another_program_has_is_replaced() -> None:
    ports, leases = Ports(), ExitStack()
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert ports.lease([number], leases)[number] != number
    leases.close()
    assert ports.lease([number], leases) == {number: number}


def test_memory_of_all_processes_of_a_worker_counts_and_its_end_says_how_much_it_was(
    machine: Machine, environment: str
) -> None:
    def grow() -> None:
        import subprocess
        import sys

        eater = "x = bytearray(120 << 20); import time; time.sleep(60)"
        children = [subprocess.Popen([sys.executable, "-c", eater]) for _ in range(2)]
        children[0].wait()

    worker = machine.worker(environment, memory_mb=150)
    machine.submit(worker, grow)
    gone = machine.engine.expect(Exited)
    assert gone.oom
    assert gone.peak_rss_kb > 150 * 1024


def test_a_program_that_made_itself_a_daemon_still_counts_and_goes_with_its_worker(
    machine: Machine, environment: str
) -> None:
    def leave_behind() -> None:
        import subprocess
        import sys
        import time

        eater = "import os, time; os.setsid(); x = bytearray(200 << 20); time.sleep(60)"
        subprocess.run(["/bin/sh", "-c", '"$0" -c "$1" &', sys.executable, eater], check=True)
        time.sleep(60)

    worker = machine.worker(environment, memory_mb=150)
    machine.submit(worker, leave_behind)
    gone = machine.engine.expect(Exited)
    assert gone.oom
    assert gone.peak_rss_kb > 150 * 1024
    assert machine.host is not None
    host = machine.host.pid
    machine.engine.until(lambda: len(processes_in(host)) <= 1)  # its zygote


# ── control groups ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def groups_at(folder: Path, *, unified: bool) -> Groups:
    return Groups("test", Loop(print), print, {name: Place(folder, unified) for name in ("cpu", "memory")})


def test_a_group_is_told_its_limits_as_its_kernel_reads_them(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    for folder, unified in ((new, True), (old, False)):
        folder.mkdir()
        groups_at(folder, unified=unified).hold("w1", 12, 1.5, 64, ExitStack())
    assert {path.name: path.read_text() for path in (new / "flash-test-w1").iterdir()} == {
        "cpu.max": "150000 100000",
        "memory.max": str(64 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cgroup.procs": "12",
    }
    assert {path.name: path.read_text() for path in (old / "flash-test-w1").iterdir()} == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
        "memory.limit_in_bytes": str(64 << 20),
        "cgroup.procs": "12",
    }


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        ("0::/\n", {"cgroup.controllers": "cpu memory", "cgroup.subtree_control": "cpu memory"}, {"cpu", "memory"}),
        ("0::/\n", {"cgroup.controllers": "cpu", "cgroup.subtree_control": ""}, {"cpu"}),
        ("0::/a/b\n", {"cgroup.controllers": "cpu memory", "cgroup.subtree_control": "cpu memory"}, set()),
        ("4:memory:/someone/s\n3:cpu,cpuacct:/\n0::/\n", {}, {"cpu"}),
        ("nonsense", {}, set()),
    ],
)
def test_groups_are_made_only_where_our_own_is_ours_to_divide(
    tmp_path: Path, own: str, files: dict[str, str], found: set[str]
) -> None:
    if os.geteuid():
        pytest.skip("for an ordinary user, owning the folder decides")
    (tmp_path / "own").write_text(own)
    root = tmp_path / "root"
    for folder in (root, root / "a" / "b", root / "cpu", root / "memory"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {"cgroup.procs": "", **files}.items():
            (folder / name).write_text(text)
    assert set(find_places(root, tmp_path / "own")) == found


def test_a_worker_of_half_a_processor_is_slowed_down_and_leaves_no_group(machine: Machine, environment: str) -> None:
    place = find_places().get("cpu")
    if place is None:
        pytest.skip("the control group for processors is not ours to divide")

    def quota(group: str) -> None:
        import os
        from pathlib import Path

        file = next(file for name in ("cpu.max", "cpu.cfs_quota_us") if (file := Path(group, name)).exists())
        here = str(os.getpid()) in Path(group, "cgroup.procs").read_text().split()
        print(json.dumps([file.read_text().split()[0], here]))

    worker = machine.worker(environment, cpus=0.5)
    group = place.folder / f"flash-{machine.rundir.name}-{worker}"
    assert look(machine, worker, quota, str(group)) == ["50000", True]
    machine.stop()
    assert not group.exists()


def real_place(controller: str) -> Place:
    """Where a test that is root may make groups of its own, whoever made the one that it lives in."""
    if os.geteuid() == 0:
        unified = Path("/sys/fs/cgroup")
        for folder, new in ((unified / controller, False), (unified, True)):
            offered = (folder / "cgroup.subtree_control") if new else (folder / "cgroup.procs")
            if os.access(offered, os.W_OK) and (not new or controller in offered.read_text().split()):
                return Place(folder, unified=new)
    pytest.skip(f"no control group for {controller} can be made here")


def test_the_kernel_ends_what_takes_more_memory_than_its_group_may_have(tmp_path: Path) -> None:
    notes: list[str] = []
    loop, place = Loop(notes.append), real_place("memory")
    groups = Groups(tmp_path.name, loop, notes.append, {"memory": place})
    leases = ExitStack()
    eater = "input(); x = bytearray(200 << 20); input()"
    with subprocess.Popen([sys.executable, "-c", eater], stdin=subprocess.PIPE, text=True) as process:
        groups.hold("w1", process.pid, 0, 64, leases)
        group = place.folder / f"flash-{tmp_path.name}-w1"
        assert str(process.pid) in (group / "cgroup.procs").read_text().split()
        assert not groups.has_killed("w1")
        assert process.stdin is not None
        print(file=process.stdin, flush=True)
        assert process.wait(30) == -signal.SIGKILL
    assert groups.has_killed("w1")
    leases.close()
    while group.exists():
        loop.turn(0.05)
    assert notes == []


@pytest.fixture
def on_top() -> Iterator[None]:
    """This process, and so the hosts that it starts, where nobody has put them into a group for memory."""
    place = real_place("memory")
    if place.unified:
        pytest.skip("a group of the new kind has all controllers, so leaving it would be leaving everything")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    before = next(line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory")
    here = str(os.getpid())
    (place.folder / "cgroup.procs").write_text(here)
    yield
    (place.folder / before.lstrip("/") / "cgroup.procs").write_text(here)


def test_a_worker_above_its_memory_is_ended_by_the_kernel_where_the_host_may_divide_its_group(
    on_top: None, machine: Machine, environment: str
) -> None:
    def grow() -> None:
        # All at once: the host looks four times a second, and the kernel is sooner.
        print(len(bytearray(400 << 20)))

    assert "memory" in find_places()
    worker = machine.worker(environment, memory_mb=150)
    group = find_places()["memory"].folder / f"flash-{machine.rundir.name}-{worker}"
    assert group.is_dir()
    machine.submit(worker, grow)
    gone = machine.engine.expect(Exited)
    assert gone.oom
    machine.engine.until(lambda: not group.exists())


def test_what_a_killed_host_left_of_groups_is_gone_after_the_next_start(machine: Machine, environment: str) -> None:
    place = find_places().get("cpu")
    if place is None:
        pytest.skip("the control group for processors is not ours to divide")
    worker = machine.worker(environment, cpus=0.5)
    group = place.folder / f"flash-{machine.rundir.name}-{worker}"
    assert group.exists()
    assert machine.host is not None
    os.kill(machine.host.pid, signal.SIGKILL)
    machine.wait_for_end()
    machine.start()
    machine.engine.until(lambda: not group.exists())
