from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from runpod_flash.wire import messages
from tests.cli.conftest import Flash
from tests.cli.standin import StandIn, Then, rows, status_row, welcome

PROMISED = {"pid", "version", "socket", "gateway_url", "token_file", "data_dir"}


def test_status_shows_what_the_engine_has_to_do(flash: Flash, engine: StandIn) -> None:
    engine.answers["status"] = rows(status_row(pid=4711))
    assert flash("engine", "status") == (
        0,
        "engine       running, pid 4711, version 0.1.0\n"
        "up           2h 2m\n"
        "data         /data (durability process, start 3)\n"
        "socket       /run/s\n"
        "host         pid 4712\n"
        "machine      2 CPUs, 4.1 GB\n"
        "workers      2\n"
        "clients      1\n"
        "jobs         4 IN_QUEUE, 1 IN_PROGRESS\n",
        "",
    )


def test_status_in_json_has_what_is_promised(flash: Flash, engine: StandIn) -> None:
    facts = json.loads(flash("engine", "status", "--json").out)
    assert facts.keys() >= PROMISED
    assert facts["running"] is True
    assert facts["gateway_url"] is None


def test_status_without_an_engine_starts_none_and_says_where_one_would_be(flash: Flash, home: Path) -> None:
    code, out, err = flash("engine", "status", "--json")
    assert (code, err) == (4, "")
    facts = json.loads(out)
    assert facts.keys() >= PROMISED
    assert (facts["running"], facts["pid"], facts["data_dir"]) == (False, None, str(home))
    assert flash("engine", "status") == (4, f"engine is not running (data in {home})\n", "")
    assert list(home.iterdir()) == []


def test_stop_without_an_engine_is_no_error(flash: Flash, home: Path) -> None:
    assert flash("engine", "stop") == (0, "", "no engine was running\n")
    assert json.loads(flash("engine", "stop", "--json").out) == {"stopped": False, "pid": None}
    assert list(home.iterdir()) == []


def test_stop_returns_when_the_process_is_gone(flash: Flash, engine: StandIn, home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:

        def stop(_: Any) -> list[messages.Head | Then]:
            process.kill()
            process.wait()
            return [messages.Ok(), Then.HANG_UP]

        engine.answers[messages.Hello] = lambda _: [welcome(home, pid=process.pid)]
        engine.answers[messages.Admin] = stop
        code, out, _ = flash("engine", "stop", "--drain")
    assert (code, out) == (0, f"engine {process.pid} stopped\n")
    (request,) = engine.requests(messages.Admin)
    assert (request.verb, request.args) == ("stop", {"drain": True, "grace_s": 5.0})


def test_start_with_an_engine_only_says_so(flash: Flash, engine: StandIn) -> None:
    engine.answers["status"] = rows(status_row(pid=4711))
    assert flash("engine", "start") == (
        0,
        "engine 4711 runs (version 0.1.0, data in /data)\n",
        "it was running\n",
    )
    facts = json.loads(flash("engine", "start", "--json").out)
    assert facts["started"] is False
    assert facts.keys() >= PROMISED


def test_a_limit_to_a_drain_without_limit_is_a_wrong_usage(flash: Flash) -> None:
    code, out, err = flash("engine", "stop", "--drain", "--grace", "60")
    assert (code, out) == (2, "")
    assert "--drain waits without a limit" in err


def test_an_engine_that_would_end_with_the_command_is_not_started(flash: Flash) -> None:
    code, out, err = flash("engine", "start", FLASH_ENGINE="child")
    assert (code, out) == (2, "")
    assert "unset FLASH_ENGINE" in err


def test_the_unit_names_this_installation_and_this_data_folder(flash: Flash, tmp_path: Path) -> None:
    home = tmp_path / 'a "home" of 100% $HOME'
    code, text, err = flash("engine", "unit", FLASH_HOME=str(home))
    assert (code, err) == (0, "")
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    told = str(home).replace('"', '\\"').replace("%", "%%")
    assert lines["Environment"] == f'"FLASH_HOME={told}"'
    assert lines["ExecStart"].endswith('/flash" engine start')
    assert not home.exists()
    if verify := shutil.which("systemd-analyze"):
        unit = tmp_path / "flash.service"
        unit.write_text(text)
        done = subprocess.run([verify, "verify", unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
