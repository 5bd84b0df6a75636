"""Reaching the engine: one is started however many ask, and what a dead one left behind is in nobody's way."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import settings
from runpod_flash.client import child, launch
from runpod_flash.errors import EngineUnavailable, StoreError
from runpod_flash.wire import rundir

STAND_IN = """
import json, os, socket, sys, time
sys.path[:0] = json.loads({path!r})
from pathlib import Path
from runpod_flash.wire import rundir
arguments = sys.argv
home = Path(arguments[arguments.index("--home") + 1])
ready = int(arguments[arguments.index("--ready-fd") + 1])
with open(home / "starts", "a") as file:
    file.write(f"{{os.getpid()}} {{os.getsid(0)}} {{os.getcwd()}}\\n")
(home / "environ").write_text(json.dumps(dict(os.environ)))
mode = (home / "mode").read_text() if (home / "mode").exists() else ""
if mode == "dies":
    sys.exit("it went wrong here")
if mode == "says":
    os.write(ready, json.dumps({{"error": {{"code": "store_unavailable", "what": "newer", "fix": "update"}}}}).encode())
    sys.exit(1)
time.sleep(0.2)
path = rundir.prepare(home) / rundir.SOCKET
path.unlink(missing_ok=True)
server = socket.socket(socket.AF_UNIX)
server.bind(str(path))
server.listen(1)
os.write(ready, b'{{"ok": true}}\\n')
os.close(ready)
end = time.time() + 20
server.settimeout(0.1)
kept = []
while time.time() < end and not (home / "stop").exists():
    if "--child" in arguments:
        import select
        leash = int(arguments[arguments.index("--parent-fd") + 1])
        if select.select([leash], [], [], 0)[0]:
            break
    try:
        kept.append(server.accept())
    except TimeoutError:
        pass
(home / "ended").touch()
"""


@pytest.fixture
def where(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A place whose engine is a stand-in that counts its starts."""
    script = home / "stand_in.py"
    script.write_text(STAND_IN.format(path=json.dumps([path for path in sys.path if path])))
    monkeypatch.setattr(launch, "DAEMON", (str(script),))
    yield launch.place(settings.load())
    (home / "stop").touch()
    child.end_all()


def starts(home: Path) -> list[list[str]]:
    return [line.split() for line in (home / "starts").read_text().splitlines()]


def test_the_first_who_asks_starts_an_engine_apart_from_the_asker(where: launch.Place) -> None:
    launch.connect(where).close()
    ((pid, session, folder),) = starts(where.home)
    assert int(session) not in (os.getsid(0), int(pid)), "a session of its own, which it does not lead"
    assert folder == "/"
    with pytest.raises(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)


def test_its_variables_are_few_and_the_callers_own_stay_with_the_caller(
    where: launch.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    monkeypatch.setenv("PYTHONWARNINGS", "error")  # about the caller's code, and the engine has warnings of its own
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ours.pem")
    monkeypatch.setenv("FLASH_DURABILITY", "power")
    launch.connect(launch.place(settings.load())).close()
    environ = json.loads((where.home / "environ").read_text())
    assert "SECRET_OF_THE_CALLER" not in environ
    assert "PYTHONWARNINGS" not in environ
    assert "FLASH_APP" not in environ
    assert environ["FLASH_DURABILITY"] == "power"
    assert environ["PATH"]
    assert environ["SSL_CERT_FILE"] == "/etc/ours.pem"


def test_many_programs_that_ask_at_once_start_one_engine(where: launch.Place) -> None:
    program = f"""
import sys
from runpod_flash import settings
from runpod_flash.client import launch
launch.DAEMON = {launch.DAEMON!r}
sys.stdin.readline()
launch.connect(launch.place(settings.load())).close()
"""
    count = 24
    programs = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(count)
    ]
    for one in programs:
        assert one.stdin is not None
        one.stdin.write(b"\n")
        one.stdin.close()
    for one in programs:
        one.wait(60)
        assert one.stderr is not None
        assert one.returncode == 0, one.stderr.read().decode()
        one.stderr.close()
    assert len(starts(where.home)) == 1


@pytest.mark.parametrize("left", ["a dead socket", "a file", "nonsense in engine.json", "a lock that nobody holds"])
def test_what_a_dead_engine_left_behind_is_in_nobodys_way(where: launch.Place, left: str) -> None:
    folder = rundir.prepare(where.home)
    if left == "a dead socket":
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(folder / rundir.SOCKET))
        dead.close()
    elif left == "a file":
        (folder / rundir.SOCKET).write_text("no socket")
    elif left == "a lock that nobody holds":
        (folder / rundir.START_LOCK).write_text("99999")
    else:
        (where.home / "engine.json").write_text('{"socket": 3}')
    launch.connect(where).close()
    assert len(starts(where.home)) == 1


def test_an_engine_that_wrote_down_another_address_is_found_there(
    where: launch.Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    launch.connect(where).close()
    (where.home / "engine.json").write_text(json.dumps({"socket": str(rundir.socket_path(where.home))}))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    launch.connect(where).close()
    assert len(starts(where.home)) == 1


def test_an_engine_that_dies_at_its_start_is_an_error_with_its_last_words(where: launch.Place) -> None:
    (where.home / "mode").write_text("dies")
    with pytest.raises(EngineUnavailable, match="the engine ended while it started") as caught:
        launch.connect(where)
    assert "it went wrong here" in str(caught.value)


def test_an_engine_that_says_why_it_cannot_start_is_an_error_of_that_kind(where: launch.Place) -> None:
    (where.home / "mode").write_text("says")
    with pytest.raises(StoreError, match="newer") as caught:
        launch.connect(where)
    assert caught.value.fix == "update"


def test_without_permission_to_start_one_a_missing_engine_is_an_error(where: launch.Place) -> None:
    with pytest.raises(EngineUnavailable, match="no engine is running"):
        launch.connect(where, start=False)
    assert not (where.home / "starts").exists()


def test_a_child_engine_ends_with_the_program_and_leaves_no_zombie(
    where: launch.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASH_ENGINE", "child")
    place = launch.place(settings.load())
    assert place.child
    launch.connect(place).close()
    ((pid, _, _),) = starts(where.home)
    child.end_all()
    assert (where.home / "ended").exists(), "it left by itself when its leash went slack"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_child_engine_ends_when_the_program_is_killed(where: launch.Place) -> None:
    program = f"""
import os, signal
os.environ["FLASH_ENGINE"] = "child"
from runpod_flash import settings
from runpod_flash.client import launch
launch.DAEMON = {launch.DAEMON!r}
launch.connect(launch.place(settings.load())).close()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    end = time.monotonic() + 10
    while not (where.home / "ended").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_home_that_cannot_be_written_gives_an_engine_of_our_own_and_says_so(
    where: launch.Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = where.home / "blocked"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FLASH_HOME", str(blocked / "home"))
    place = launch.place(settings.load())
    assert place.child
    assert place.home.is_dir()
    assert "cannot be written" in capsys.readouterr().err
    assert launch.place(settings.load()).home == place.home
    child.end_all()
    assert not place.home.exists()


# ── the run folder ────────────────────────────────────────────────────────────────────────────────


def test_the_run_folder_is_short_private_and_the_same_for_every_name_of_a_home(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home)
    folder = rundir.prepare(home)
    assert folder == rundir.prepare(link)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    deep = tmp_path / ("d" * 120)
    assert len(str(rundir.socket_path(deep))) < 100


def test_a_run_folder_that_is_not_ours_alone_is_refused(home: Path) -> None:
    folder = rundir.prepare(home)
    folder.chmod(0o755)
    with pytest.raises(rundir.RundirError, match="open to other users"):
        rundir.prepare(home)
    folder.rmdir()
    folder.symlink_to(home)
    with pytest.raises(rundir.RundirError, match="not a folder"):
        rundir.prepare(home)


def test_a_runtime_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for wrong in ("", "relative", "/nowhere/at/all", "/" + "x" * 90):
        monkeypatch.setenv("XDG_RUNTIME_DIR", wrong)
        assert str(rundir.rundir(home)).startswith("/tmp/flash-")
