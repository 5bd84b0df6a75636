from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from runpod_flash.host import restart
from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import Children
from runpod_flash.host.restart import EngineStarter, engine_command
from runpod_flash.wire import kinds
from runpod_flash.wire.frame import encode
from runpod_flash.wire.messages import Error, Exited, Goodbye, Hello, Ping, Pong, Refuse, Stop
from tests.host.conftest import Machine
from tests.host.test_workers import add, sleep


def test_the_host_introduces_itself_with_what_the_machine_has(machine: Machine) -> None:
    machine.host = machine.provider.start(machine.engine.path, machine.home, machine.rundir, "secret")
    hello = machine.engine.expect(Hello)
    assert (hello.role, hello.key, hello.pid) == ("host", "secret", machine.host.pid)
    assert hello.machine is not None
    assert hello.machine.cpus >= 1
    assert hello.machine.memory_mb > 100


def test_workers_live_through_an_engine_that_dies_and_talk_to_the_next(machine: Machine) -> None:
    machine.start()
    worker = machine.worker(machine.build().path)
    machine.engine.go()
    time.sleep(0.3)
    machine.engine.listen()
    hello = machine.engine.expect(Hello)
    assert [presence.worker for presence in hello.workers] == [worker]
    machine.engine.until(lambda: worker in machine.engine.workers)
    assert machine.call(worker, add, 1, 2).ok


def test_the_end_of_a_worker_is_told_until_it_is_acknowledged(machine: Machine) -> None:
    machine.start()
    worker = machine.worker(machine.build().path)
    machine.engine.acknowledges = False
    machine.engine.send(Stop(worker=worker))
    machine.engine.expect(Exited)
    for _ in range(2):
        machine.engine.go()
        machine.engine.listen()
        assert machine.engine.expect(Exited).worker == worker
    machine.engine.acknowledges = True
    machine.engine.go()
    machine.engine.listen()
    machine.engine.expect(Exited)
    time.sleep(0.1)
    machine.engine.go()
    machine.engine.listen()
    machine.engine.expect(Hello)
    machine.engine.pump(0.2)
    assert not machine.engine.pending(Exited)


def test_a_refused_host_ends_its_workers_and_says_why_in_its_log(machine: Machine) -> None:
    machine.start()
    worker = machine.worker(machine.build().path)
    machine.submit(worker, sleep, 1000)
    machine.engine.go()
    machine.engine.greet = lambda peer, hello: peer.send(Refuse(code="host", what="there is another host"))  # type: ignore[method-assign]
    machine.engine.listen()
    assert machine.wait_for_end() == 0
    assert "there is another host" in machine.log()


def test_a_refusal_because_of_a_handover_is_only_a_delay(machine: Machine) -> None:
    machine.start()
    greet = machine.engine.greet
    machine.engine.go()
    machine.engine.greet = lambda peer, hello: peer.send(Refuse(code="leaving", what="", handover=True))  # type: ignore[method-assign]
    machine.engine.listen()
    machine.engine.until(lambda: machine.engine.unknown)
    machine.engine.greet = greet  # type: ignore[method-assign]
    machine.engine.go()
    machine.engine.listen()
    machine.engine.expect(Hello)


def test_after_a_goodbye_without_an_end_the_host_stays_and_comes_back(machine: Machine) -> None:
    machine.start()
    machine.engine.send(Goodbye(reason="handover"))
    machine.engine.pump(0.1)
    machine.engine.go()
    time.sleep(0.5)
    machine.engine.listen()
    machine.engine.expect(Hello)


def test_a_host_without_an_engine_for_too_long_ends(machine: Machine) -> None:
    machine.provider._options += ["--lease", "0.5"]
    machine.start()
    worker = machine.worker(machine.build().path)
    machine.submit(worker, sleep, 1000)
    machine.engine.go()
    assert machine.wait_for_end() == 0
    machine.engine.listen()


def test_sigterm_is_an_orderly_end(machine: Machine) -> None:
    host = machine.start()
    machine.worker(machine.build().path)
    os.kill(host.pid, signal.SIGTERM)
    assert machine.wait_for_end() == 0
    assert not list((machine.rundir / "workers").iterdir())


def test_what_a_host_does_not_know_is_answered_and_the_link_stays(machine: Machine) -> None:
    machine.start()
    assert machine.engine.host is not None
    machine.engine.host.stream.sendall(encode(200, b"{}", sid=8))
    assert machine.engine.expect(Error, sid=8).code == "unsupported"
    machine.engine.host.stream.sendall(encode(kinds.LAUNCH, b'{"worker": 1}', sid=10))
    assert "LAUNCH" in machine.engine.expect(Error, sid=10).what
    machine.engine.expect(Pong, sid=machine.engine.send(Ping()))


def test_a_host_has_nothing_of_whoever_started_the_engine_but_what_the_next_engine_needs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "1")
    monkeypatch.setenv("FLASH_DURABILITY", "power")
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    host = machine.start()
    os.close(descriptor)
    names = {line.partition("=")[0] for line in Path(f"/proc/{host.pid}/environ").read_text().split("\0") if line}
    assert "SECRET_OF_THE_SHELL" not in names
    assert "FLASH_DURABILITY" in names
    targets = [os.readlink(path) for path in Path(f"/proc/{host.pid}/fd").iterdir()]
    assert targets.count("/dev/null") == 1
    assert os.getsid(host.pid) == host.pid


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_an_engine_that_will_not_start_is_tried_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, notes = Clock(), list[str]()
    starts = tmp_path / "starts"
    monkeypatch.setattr(restart, "engine_command", lambda _home: ["sh", "-c", f"echo x >> {starts}; exit 1"])
    monkeypatch.setattr(restart, "time", clock)
    loop = Loop(notes.append)
    children = Children(loop)
    try:
        starter = EngineStarter("/home", children, notes.append)
        at = []
        for _ in range(4000):
            before = len(children.watched)
            starter.start()
            if len(children.watched) > before:
                at.append(round(clock.now - 1000, 2))
                while children.watched:
                    loop.turn(1)
            clock.now += 0.05
    finally:
        children.close()
    pauses = [round(b - a, 1) for a, b in itertools.pairwise(at)]
    assert pauses[0] == pytest.approx(0.2, abs=0.11)
    assert max(pauses) == pytest.approx(30, abs=0.2)
    assert all(later >= earlier - 0.11 for earlier, later in itertools.pairwise(pauses))
    assert any("exit code 1" in note for note in notes)


def test_the_command_line_of_an_engine() -> None:
    assert engine_command("/h")[1:] == ["-m", "runpod_flash.daemon", "--home", "/h"]


def test_a_host_starts_an_engine_where_none_listens(machine: Machine, tmp_path: Path) -> None:
    sign = tmp_path / "started"
    machine.start_altered(
        "from runpod_flash.host import restart\n"
        f"restart.engine_command = lambda home: ['sh', '-c', 'echo $0 >> {sign}', home]"
    )
    machine.engine.go()
    limit = time.monotonic() + 20
    while not sign.exists() or not sign.read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert sign.read_text().splitlines()[0] == str(machine.home)
    machine.engine.listen()
    machine.engine.expect(Hello)


def test_a_host_of_an_engine_that_left_on_purpose_starts_no_other(machine: Machine, tmp_path: Path) -> None:
    sign = tmp_path / "started"
    machine.start_altered(
        f"from runpod_flash.host import restart\nrestart.engine_command = lambda home: ['touch', '{sign}']"
    )
    machine.engine.send(Goodbye(reason="idle"))
    machine.engine.pump(0.1)
    machine.engine.go()
    time.sleep(1)
    assert not sign.exists()
    machine.engine.listen()
    machine.engine.expect(Hello)
