from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from runpod_flash.providers.base import HostProcess, Provider
from runpod_flash.providers.local import LocalProvider


def start(folder: Path) -> HostProcess:
    provider: Provider = LocalProvider(restart_engine=False)
    return provider.start(folder / "s", folder / "home", folder / "run", "key")


def end_of(host: HostProcess) -> int:
    assert select.select([host.fileno()], [], [], 20)[0], "it does not end"
    code = host.reap()
    assert code is not None
    host.close()
    return code


def test_a_host_that_is_killed_is_seen_at_once(tmp_path: Path) -> None:
    host = start(tmp_path)
    assert host.reap() is None
    os.kill(host.pid, signal.SIGKILL)
    assert end_of(host) == -signal.SIGKILL


def test_a_host_that_is_asked_to_end_ends_well(tmp_path: Path) -> None:
    host = start(tmp_path)
    log = tmp_path / "home" / "logs" / "host.log"
    limit = time.monotonic() + 20
    while "started" not in log.read_text():
        assert time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(0.2)
    host.terminate()
    assert end_of(host) == 0
    assert "ended" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    host.terminate()
