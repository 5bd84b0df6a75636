"""`flash doctor` on ordinary and on odd machines: it always has an answer, and never changes anything."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.wire import rundir
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn, rows, status_row
from tests.disasters.test_stores import mounted

LOOKED_AT = [
    "flash", "settings", ".env", "engine", "python", "other pythons", "uv", "data folder", "disk", "contents",
    "socket folder", "processors", "memory", "graphics cards", "open files", "fork", "process ends", "control group",
    "namespaces",
]  # fmt: skip


def looked(flash: Flash, code: int, **environ: str) -> dict[str, list[dict[str, Any]]]:
    """The checks of a run by name."""
    ended = flash("doctor", "--json", **environ)
    facts = json.loads(ended.out)
    assert (ended.code, ended.err) == (code, ""), facts
    assert facts["ok"] is (code == 0)
    found: dict[str, list[dict[str, Any]]] = {}
    for check in facts["checks"]:
        assert check["level"] in ("ok", "warning", "problem")
        assert check["what"]
        assert check["level"] == "ok" or check["fix"] or "cannot be told" in check["what"]
        found.setdefault(check["name"], []).append(check)
    return found


def test_it_looks_at_everything_and_starts_nothing(flash: Flash, home: Path) -> None:
    home.chmod(0o700)
    found = looked(flash, 0)
    assert list(found) == LOOKED_AT
    assert found["engine"][0]["what"] == "not running: the first call starts it"
    assert list(home.iterdir()) == []
    home.rmdir()
    assert looked(flash, 0)["data folder"][0]["what"] == f"{home}, which the first call makes"
    assert not home.exists()


def test_a_person_reads_it_line_by_line_with_the_mends(flash: Flash, home: Path) -> None:
    home.chmod(0o755)
    code, out, err = flash("doctor", FLASH_HOM="1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("ok       flash           version ")
    assert "warning  settings        the variable FLASH_HOM means nothing; FLASH_HOME does" in lines
    assert f"{'':24} fix: chmod 700 {home}" in lines
    assert any(line.split() == ["FLASH_LEASE", "30.0", "default"] for line in lines)
    assert err == "\n0 problems, 2 warnings\n"


def test_settings_are_told_with_their_source_and_without_secrets(flash: Flash, home: Path) -> None:
    (home.parent / "pyproject.toml").write_text("[tool.flash]\ndurability = 'power'\n")
    facts = json.loads(flash("doctor", "--json", UV_INDEX_URL="https://me:secret@index/simple", FLASH_LEASE="7").out)
    told = {row["name"]: (row["value"], row["source"]) for row in facts["settings"]}
    assert told["FLASH_DURABILITY"] == ("power", f"{home.parent}/pyproject.toml:2 [tool.flash] durability")
    assert told["FLASH_LEASE"] == ("7.0", "FLASH_LEASE")
    assert told["UV_INDEX_URL"][0] == "https://•••@index/simple"
    assert "secret" not in json.dumps(facts)


def test_a_setting_that_cannot_be_hides_nothing_else(flash: Flash, home: Path) -> None:
    found = looked(flash, 1, FLASH_DURABILITY="powr")
    assert list(found) == LOOKED_AT
    assert "Did you mean 'power'?" in found["settings"][0]["what"]


def test_an_engine_is_asked(flash: Flash, home: Path, engine: StandIn) -> None:
    engine.answers["status"] = rows(status_row(pid=4711, version="0.0.9", protocol=1))
    found = looked(flash, 0)["engine"][0]
    assert (found["level"], found["fix"]) == ("warning", "flash engine restart: jobs and workers go on")
    assert found["what"].startswith("process 4711, version 0.0.9, protocol 1")


@pytest.fixture
def holder(home: Path) -> Iterator[None]:
    """Somebody who holds the engine's lock and does not answer."""
    with (home / "engine.lock").open("w") as lock:
        lock.write(json.dumps({"pid": 4711, "host": socket.gethostname()}))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("holder")
def test_a_lock_that_is_held_by_nobody_who_answers_is_a_problem(flash: Flash, home: Path) -> None:
    found = looked(flash, 1)["engine"][0]
    assert f"process 4711 on {socket.gethostname()} holds {home}/engine.lock" in found["what"]
    assert "kill 4711" in found["fix"]


def test_what_a_dead_engine_left_is_told_and_no_problem(flash: Flash, home: Path) -> None:
    path = rundir.prepare(home) / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert f"a dead one left {path}" in looked(flash, 0)["engine"][0]["what"]


def test_places_that_cannot_be_used_are_problems(flash: Flash, home: Path) -> None:
    (home.parent / "file").touch()
    rundir.prepare(home).chmod(0o755)
    found = looked(flash, 1)
    assert found["socket folder"][0]["level"] == "problem"
    assert "open to other users" in found["socket folder"][0]["what"]
    assert looked(flash, 1, FLASH_HOME=f"{home.parent}/file/home")["data folder"][0]["level"] == "problem"
    with mounted(home, "-t", "tmpfs", "-o", "size=4m", "flash-test"):
        disk = looked(flash, 1)["disk"][0]
    assert (disk["level"], disk["facts"]["kind"], disk["facts"]["mounted_at"]) == ("problem", "tmpfs", str(home))


ODD = """
import os, signal, subprocess
os.statvfs = lambda path: os.kill(os.getpid(), signal.SIGSEGV)
def refused(*_):
    raise OSError(38, "Function not implemented")
os.pidfd_open = refused
def missing(*_, **__):
    raise PermissionError(13, "Permission denied", "a program")
subprocess.Popen.__init__, _init = missing, subprocess.Popen.__init__
subprocess.Popen.__del__ = lambda self: None
import sys
if "-m" not in sys.orig_argv:
    subprocess.Popen.__init__ = _init
"""


def test_on_a_machine_that_is_odd_everywhere_each_answer_is_still_given(flash: Flash, home: Path) -> None:
    odd = home.parent / "odd"
    odd.mkdir()
    (odd / "sitecustomize.py").write_text(ODD)
    ended = flash("doctor", "--json", PYTHONPATH=os.pathsep.join([str(odd), flash.environ["PYTHONPATH"]]), PATH="")
    found = {check["name"]: check for check in json.loads(ended.out)["checks"]}
    assert "Traceback" not in ended.err
    assert "ended the program" in found["disk"]["what"]
    assert "it cannot be told: PermissionError" in found["fork"]["what"]
    assert "pidfd" in found["process ends"]["what"]
    assert found["memory"]["level"] == "ok"
    assert "namespaces" in found
