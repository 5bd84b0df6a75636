"""Debian packages that the machine lacks: really fetched, really run. One build serves the module."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from runpod_flash.host import apt
from runpod_flash.wire.messages import EnsureEnv, EnvState, ListEnvs, PruneEnvs, Rows
from tests.host.conftest import Machine, processes_in
from tests.host.index import served
from tests.host.test_environments import python

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="not a Debian-like system")

NAMES = ["figlet", "graphviz"]
"""Small, seldom installed: one is called by another name than its file's, one loads plugins by their full paths."""
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def order(machine: Machine, *names: str, key: str, **variables: str) -> EnsureEnv:
    made = machine.order()
    made.env, made.system = key * 32, list(names)
    made.variables = {**made.variables, **variables}
    return made


def build(machine: Machine, *names: str, key: str, **variables: str) -> EnvState:
    return ended(machine, machine.engine.send(order(machine, *names, key=key, **variables)))


def ended(machine: Machine, sid: int) -> EnvState:
    return machine.engine.expect(EnvState, lambda state: state.phase in ("ready", "failed"), sid)


def prefixes(machine: Machine) -> list[Path]:
    return [path for path in (machine.home / "system").iterdir() if len(path.name) == 32]


@pytest.fixture(scope="module")
def shared() -> Iterator[Machine]:
    """A machine on which ten have asked for the packages at once."""
    folder = Path(tempfile.mkdtemp(prefix="fs"))
    made = Machine(folder)
    try:
        made.start()
        made.engine.patience = 120  # five packages are unpacked, on a disk that may be busy
        sids = [made.engine.send(order(made, *NAMES, key=key)) for key in "aaaaabbbcc"]
        states = [ended(made, sid) for sid in sids]
        assert {state.phase for state in states} == {"ready"}, states[0].error
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_many_asks_are_one_build_that_is_told_of_line_by_line(shared: Machine) -> None:
    assert len(prefixes(shared)) == 1
    lines = [state.line for state in shared.engine.pending(EnvState) if state.line]
    assert sum("fetching" in line for line in set(lines)) == 1
    assert any("unpacking" in line for line in lines)


def test_workers_find_its_programs_libraries_and_data(shared: Machine) -> None:
    def draw() -> None:
        import subprocess

        drawn = subprocess.run(["dot", "-Tsvg"], input="digraph{a->b}", capture_output=True, text=True, check=True)
        letters = subprocess.run(["figlet", "i"], capture_output=True, text=True, check=True)
        if "</svg>" not in drawn.stdout or letters.stdout.count("\n") < 4:
            raise ValueError(drawn, letters)

    done = shared.call(shared.worker(build(shared, *NAMES, key="a").path), draw)
    assert done.ok, done.error


def test_workers_of_other_environments_and_the_machine_see_nothing_of_it(shared: Machine) -> None:
    def find() -> None:
        import shutil

        if shutil.which("dot"):
            raise ValueError(shutil.which("dot"))

    worker = shared.worker(build(shared, key="d").path)
    assert shared.call(worker, find).ok
    assert shutil.which("dot") is None


def test_what_was_built_needs_no_network_any_more(shared: Machine) -> None:
    state = build(shared, *NAMES, key="e", **NO_NETWORK)
    assert state.phase == "ready", state.error
    assert state.path == build(shared, *NAMES, key="a").path


def test_packages_that_the_machine_has_are_no_matter(shared: Machine) -> None:
    assert build(shared, "dpkg", key="f").path == build(shared, key="d").path


def test_a_misspelled_name_is_told_at_once_with_what_could_be_meant(shared: Machine) -> None:
    state = build(shared, "graphvis", key="g")
    assert (state.phase, state.code) == ("failed", "system_package")
    assert "there is no system package 'graphvis'" in state.error
    assert "did you mean graphviz" in state.error


def test_prefixes_are_listed_and_go_with_the_last_environment_that_was_built_with_them(shared: Machine) -> None:
    rows = shared.engine.expect(Rows, sid=shared.engine.send(ListEnvs())).rows
    (prefix,) = [row for row in rows if row["kind"] == "system"]
    assert prefix["requirements"] == NAMES
    assert any(one.startswith("graphviz=") for one in prefix["lock"])
    assert prefix["size"] > 1_000_000
    used = [row["id"] for row in rows if row["prefix"] == prefix["id"] and row["kind"] == "python"]
    for keep, left in ((used, 1), ([], 1)):  # a worker of the first test still uses it
        shared.engine.expect(Rows, sid=shared.engine.send(PruneEnvs(keep=keep)))
        assert len(prefixes(shared)) == left


def test_python_packages_are_fetched_while_system_packages_are_waited_for(shared: Machine, tmp_path: Path) -> None:
    name, fetched = f"flashtest{uuid.uuid4().hex[:12]}", threading.Event()
    before = len(prefixes(shared))
    with served(tmp_path / "index") as index:
        index.add(name)
        index.on_file = fetched.set
        wanted = order(shared, "toilet", key="h")
        wanted.requirements, wanted.index, wanted.accelerate = [name], {"UV_DEFAULT_INDEX": index.url}, True

        with open(shared.home / "system/locks/apt", "w") as lock:  # as if another build fetched packages just now
            fcntl.flock(lock, fcntl.LOCK_EX)
            sid = shared.engine.send(wanted)
            assert fetched.wait(30)
        state = ended(shared, sid)

    assert state.phase == "ready", state.error
    said = "\n".join(said.line for said in shared.engine.pending(EnvState))
    assert "system packages and those of Python at the same time" in said
    assert python(state, f"import {name}; print({name}.__name__)") == name
    assert len(prefixes(shared)) == before + 1


def test_without_a_network_that_is_said(machine: Machine) -> None:
    machine.start()
    state = build(machine, *NAMES, key="a", **NO_NETWORK)
    assert state.phase == "failed"
    assert state.error.startswith("no network")


def test_a_host_killed_in_mid_build_leaves_nothing_in_the_way_of_the_next(machine: Machine) -> None:
    host = machine.start()
    machine.engine.send(order(machine, *NAMES, key="a"))
    machine.engine.until(lambda: list((machine.home / "environments").glob("tmp.*")) and processes_in(host.pid))
    builders = processes_in(host.pid)
    os.kill(host.pid, signal.SIGKILL)
    machine.wait_for_end()
    machine.engine.until(partial(gone, builders))
    machine.start()
    machine.engine.until(lambda: not list((machine.home / "environments").glob("tmp.*")))
    assert build(machine, "dpkg", key="b").phase == "ready"
    assert build(machine, *NAMES, key="a", **NO_NETWORK).error.startswith("no network"), "no half of it counts"


def gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}/exe").exists() for pid in processes)


def test_a_full_disk_is_named() -> None:
    text = "error: dpkg-deb: error: subprocess tar: ./x: Cannot write: No space left on device"
    assert apt.explain(text, Path("/data/system")).startswith("the disk is full where system packages are unpacked")
