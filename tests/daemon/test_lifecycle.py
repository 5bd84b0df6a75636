from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

import runpod_flash
from runpod_flash.wire import messages
from tests.daemon.engines import PYTHON, SECONDS, Engine, Machine
from tests.waiting import until

ROOT = Path(__file__).parents[2]


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# ── beginning ─────────────────────────────────────────────────────────────────────────────────────


def test_when_it_says_ready_it_answers_and_all_that_it_made_is_private(machine: Machine) -> None:
    engine = machine.start()
    assert engine.said == {"ok": True}
    facts = machine.facts
    assert facts["pid"] == engine.process.pid
    assert machine.peer().welcome.version == facts["version"]
    assert mode(facts["socket"]) == 0o600
    assert mode(machine.home) == mode(Path(facts["socket"]).parent) == 0o700
    made = [path for path in machine.home.rglob("*") if path.is_file()]
    assert {"engine.json", "engine.lock", "engine.log", "store.sqlite"} <= {path.name for path in made}
    assert all(mode(path) & 0o077 == 0 for path in made)


def test_a_hundred_starters_are_one_engine(machine: Machine) -> None:
    starters = subprocess.Popen(
        [PYTHON, "-m", "tests.daemon.hundred", str(machine.home)],
        env=machine.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{machine.environ['PYTHONPATH']}"},
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert starters.stdout is not None
    found = json.loads(starters.stdout.readline())
    assert found["said"] == [{"ok": True}] * 100
    assert found["codes"] == [0] * 99
    assert machine.facts["pid"] == found["left"]
    assert machine.peer().welcome.start_no == 1, "the store was opened once"
    os.kill(found["left"], signal.SIGTERM)
    starters.wait(SECONDS)
    starters.stdout.close()


def test_the_second_says_ok_and_leaves_the_first_alone(machine: Machine) -> None:
    first = machine.start()
    second = machine.start()
    assert second.said == {"ok": True}
    assert second.wait() == 0
    assert machine.facts["pid"] == first.process.pid
    assert isinstance(machine.peer().welcome, messages.Welcome)


def test_another_run_folder_is_no_other_engine(machine: Machine) -> None:
    """Two programs with different XDG_RUNTIME_DIR share the engine of their data folder."""
    first = machine.start()
    elsewhere = machine.folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    second = machine.start(XDG_RUNTIME_DIR=str(elsewhere))
    assert second.said == {"ok": True}
    assert second.wait() == 0
    assert machine.facts["pid"] == first.process.pid


def test_the_socket_of_a_killed_engine_is_in_nobody_s_way(machine: Machine) -> None:
    first = machine.start()
    address = machine.facts["socket"]
    first.process.kill()
    first.wait()
    assert os.path.exists(address)
    second = machine.start()
    assert second.said == {"ok": True}
    assert machine.peer().welcome.pid == second.process.pid


def test_a_store_that_is_none_is_explained(machine: Machine) -> None:
    machine.home.mkdir()
    (machine.home / "store.sqlite").write_bytes(b"not a database, " * 1000)
    engine = machine.start()
    assert engine.said["error"]["code"] == "store_unavailable"
    assert str(machine.home / "store.sqlite") in engine.said["error"]["what"]
    assert engine.said["error"]["fix"]
    assert engine.wait() == 1


def test_a_setting_that_cannot_be_is_explained(machine: Machine) -> None:
    engine = machine.start(FLASH_DURABILITY="eternal")
    assert engine.said["error"]["code"] == "config"
    assert "FLASH_DURABILITY" in engine.said["error"]["what"]
    assert engine.wait() == 1


def test_a_run_folder_that_others_can_enter_is_refused(machine: Machine) -> None:
    (machine.run / f"flash-{os.getuid()}").mkdir()
    (machine.run / f"flash-{os.getuid()}").chmod(0o755)
    engine = machine.start()
    assert "mode 755" in engine.said["error"]["why"]
    assert engine.wait() == 1


def test_a_long_log_is_put_aside(machine: Machine) -> None:
    machine.home.mkdir()
    (machine.home / "engine.log").write_bytes(bytes(5 << 20))
    engine = machine.start()
    assert (machine.home / "engine.log.1").stat().st_size == 5 << 20
    assert "listens at" in engine.log()


# ── ending ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order_and_leaves_nothing(machine: Machine, number: int) -> None:
    engine = machine.start()
    address = machine.facts["socket"]
    peer = machine.peer()
    host = peer.host()
    engine.process.send_signal(number)
    goodbye = peer.hear()
    assert isinstance(goodbye, messages.Goodbye)
    assert goodbye.stop_host
    assert peer.hear() is None
    assert engine.wait() == 0
    assert not psutil.pid_exists(host)
    assert machine.processes() == []
    assert not os.path.exists(address)
    assert not (machine.home / "engine.json").exists()


def test_it_stops_when_a_client_asks(machine: Machine) -> None:
    engine = machine.start()
    peer = machine.peer()
    assert isinstance(peer.ask(messages.Admin(verb="stop")), messages.Ok)
    assert peer.hear().reason == "stop"
    assert engine.wait() == 0


def test_it_stops_by_itself_when_nobody_needs_it(machine: Machine) -> None:
    engine = machine.start(FLASH_IDLE_STOP="0")
    peer = machine.peer()
    time.sleep(1.5)  # more than it would wait
    assert engine.process.poll() is None, "somebody is connected"
    peer.sock.close()
    assert engine.wait(10) == 0
    assert "left (idle)" in engine.log()


def test_the_next_one_waits_until_the_last_one_has_left(machine: Machine) -> None:
    first = machine.start()
    machine.peer().host()
    first.process.send_signal(signal.SIGTERM)
    until(lambda: not (machine.home / "engine.json").exists())
    second = machine.start()
    assert second.said == {"ok": True}
    assert machine.facts["pid"] == second.process.pid
    assert first.wait() == 0


def test_as_a_child_it_ends_with_its_program_and_not_with_ctrl_c(machine: Machine) -> None:
    leash, mine = os.pipe()
    engine = machine.start("--child", "--parent-fd", str(leash), pass_fds=(leash,))
    os.close(leash)
    peer = machine.peer()
    engine.process.send_signal(signal.SIGINT)
    assert peer.status()["pid"] == engine.process.pid
    os.close(mine)
    assert engine.wait() == 0
    assert machine.processes() == []


def test_a_host_that_dies_is_reaped(machine: Machine) -> None:
    engine = machine.start()
    peer = machine.peer()
    host = peer.host()
    os.kill(host, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(host))
    assert engine.process.poll() is None


def test_a_killed_engine_comes_back_as_it_was(machine: Machine) -> None:
    """Its host starts the next one: at the same socket, with the same settings, and stays."""
    first = machine.start(FLASH_DURABILITY="power")
    host = machine.peer().host()
    address = machine.facts["socket"]
    first.process.kill()
    first.wait()
    until(lambda: machine.facts["pid"] != first.process.pid)
    assert machine.facts["socket"] == address
    peer = machine.peer()
    assert peer.welcome.durability == "power"
    assert peer.host() == host
    assert isinstance(peer.ask(messages.Admin(verb="stop")), messages.Ok)
    until(lambda: machine.processes() == [])


# ── making room ───────────────────────────────────────────────────────────────────────────────────


def test_it_makes_room_when_a_newer_client_asks_and_the_host_stays(machine: Machine) -> None:
    first = machine.start()
    peer = machine.peer()
    host = peer.host()
    assert isinstance(peer.ask(messages.Admin(verb="handover")), messages.Ok)
    goodbye = peer.hear()
    assert (goodbye.reason, goodbye.stop_host) == ("handover", False)
    second = machine.start()
    assert first.wait() == 0
    assert psutil.pid_exists(host)
    assert machine.peer().host() == host
    assert second.stop() == 0
    until(lambda: machine.processes() == [])


@pytest.mark.parametrize("fate", ["replaced", "gone"])
def test_an_engine_whose_package_is_no_more_makes_room(machine: Machine, fate: str) -> None:
    first = start_from_copy(machine)
    before = machine.peer()
    if fate == "gone":
        shutil.rmtree(machine.folder / "copy")
    else:
        version = machine.folder / "copy" / "runpod_flash" / "_version.py"
        version.unlink()
        version.write_text('__version__ = "9.9.9"\n')
    after = machine.peer().welcome
    assert (after.code, after.handover) == ("replaced", True)
    assert before.hear().reason == "handover"
    second = machine.start()
    assert first.wait() == 0
    assert machine.peer().welcome.pid == second.process.pid


def start_from_copy(machine: Machine) -> Engine:
    """An engine of a copy of the package."""
    copy = machine.folder / "copy"
    package = Path(runpod_flash.__file__).parent
    shutil.copytree(package, copy / "runpod_flash", ignore=shutil.ignore_patterns("__pycache__"))
    path = os.pathsep.join([str(copy), machine.environ["PYTHONPATH"]])
    engine = machine.start(PYTHONPATH=path)
    assert engine.said == {"ok": True}
    return engine


# ── bad manners ───────────────────────────────────────────────────────────────────────────────────


def test_strangers_harm_nobody(machine: Machine) -> None:
    machine.start()
    address = machine.facts["socket"]
    good = machine.peer()
    for manners in (b"GET / HTTP/1.1\r\n\r\n", b"", os.urandom(4096), b"\xff" * 100):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(address)
            stranger.sendall(manners)
    assert machine.peer(role="host", key="guessed").welcome.code == "unknown_host"
    assert machine.peer(role="worker", worker="w", key="guessed").welcome.code == "unknown_worker"
    assert good.status()["clients"] == 1
