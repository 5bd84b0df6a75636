from __future__ import annotations

import json
import os
from pathlib import Path

from runpod_flash.model.endpoint import Program
from runpod_flash.wire.messages import Exited, Stop
from tests.host.conftest import Machine, processes_in

LOOK = """
import json, os, signal, subprocess, sys
print(json.dumps({
    "argv": sys.argv, "prefix": sys.prefix, "given": os.environ["GIVEN"], "worker": os.environ["FLASH_WORKER_ID"],
    "beside": open("words.txt").read(), "here": os.getcwd(), "open": sorted(os.listdir("/proc/self/fd")),
    "ignored": [int(n) for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN],
    "key": os.path.exists(os.path.expanduser("~/.runpod/config.toml")),
}))
"""
WAIT = """
import os, signal, subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
open(sys.argv[1], "w").write(str(child.pid))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
signal.pause()
"""


def program_of(folder: Path, text: str, *arguments: str) -> Program:
    folder.mkdir()
    (folder / "handler.py").write_text(text)
    (folder / "words.txt").write_text("hello")
    return Program(("python", str(folder / "handler.py"), *arguments), str(folder), "d")


def test_a_program_runs_in_its_environment_and_sees_what_lies_beside_it(
    machine: Machine, environment: str, tmp_path: Path
) -> None:
    (tmp_path / ".runpod").mkdir()
    (tmp_path / ".runpod" / "config.toml").write_text("[default]\napi_key = 'of the cloud'\n")
    variables = {**machine.variables, "GIVEN": "yes", "HOME": str(tmp_path)}
    program = program_of(tmp_path / "mine", LOOK, "--loud")
    launched = machine.launch(environment, program=program, variables=variables)
    assert not launched.error
    ended = machine.engine.expect(Exited)
    assert ended.code == 0
    seen = json.loads(ended.last_lines[-1])
    assert seen["argv"] == [str(tmp_path / "mine" / "handler.py"), "--loud"]
    assert (seen["prefix"], seen["given"], seen["worker"]) == (environment, "yes", launched.worker)
    assert seen["beside"] == "hello"
    assert seen["here"].startswith(f"{machine.rundir}/workers/{launched.worker}/")
    assert len(seen["open"]) == 4, "its output, and the folder that it looks into"
    assert not set(seen["ignored"]) & {1, 2, 15}
    assert not seen["key"], "the cloud's key is hidden: a worker would show it instead of its own"


def test_a_program_is_told_to_end_and_whatever_it_started_ends_with_it(
    machine: Machine, environment: str, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    launched = machine.launch(environment, program=program_of(tmp_path / "mine", WAIT, str(note)))
    machine.engine.until(lambda: note.exists() and note.read_text())
    machine.engine.send(Stop(worker=launched.worker, grace_ms=20_000))
    ended = machine.engine.expect(Exited)
    assert (ended.code, ended.why) == (3, "stop")
    host = machine.host
    assert host is not None
    machine.engine.until(lambda: int(note.read_text()) not in processes_in(host.pid))


def test_what_is_no_program_says_so(machine: Machine, environment: str, tmp_path: Path) -> None:
    machine.launch(environment, program=Program(("no-such-program",), str(tmp_path), "d"))
    ended = machine.engine.expect(Exited)
    assert ended.code == 127
    assert ended.last_lines == ["no-such-program cannot be started: No such file or directory"]
    assert os.path.isdir(tmp_path)
