"""What a function prints reaches its caller's standard error, whole and in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runpod_flash.testing import IsolatedEngine

PROGRAM = """
import asyncio
from runpod_flash import CpuLiveServerless, remote

@remote(resource_config=CpuLiveServerless(name="talk"))
def talk(lines: int, until: str) -> int:
    import time
    from pathlib import Path

    for line in range(lines):
        print("line", line, flush=True)
        time.sleep(0.05)
    while until and not Path(until).exists():
        time.sleep(0.01)
    return lines

print(asyncio.run(talk({lines}, {until!r})).unwrap())
"""


def test_every_line_is_shown_in_order_although_the_engine_was_killed_in_between(
    flash_engine: IsolatedEngine, tmp_path: Path
) -> None:
    shown, lines = tmp_path / "shown", 40
    program = PROGRAM.format(lines=lines, until="")
    with shown.open("wb") as errors:
        running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=errors)
    wait_for(shown, "line 5")
    os.kill(flash_engine.facts["pid"], signal.SIGKILL)
    assert running.communicate(timeout=60)[0] == b"40\n"
    told = [line.partition("] ")[2] for line in shown.read_text().splitlines() if line.startswith("[talk")]
    assert [line for line in told if line.startswith("line")] == [f"line {number}" for number in range(lines)]


def test_lines_that_came_while_there_was_no_engine_are_shown_before_the_call_returns(
    flash_engine: IsolatedEngine, tmp_path: Path
) -> None:
    shown, go, lines = tmp_path / "shown", tmp_path / "go", 8
    program = PROGRAM.format(lines=lines, until=str(go))
    with shown.open("wb") as errors:
        running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=errors)
    wait_for(shown, "line 1")
    os.kill(running.pid, signal.SIGSTOP)  # so it hears of nothing until all is printed
    before = flash_engine.facts["pid"]
    os.kill(before, signal.SIGKILL)
    while not flash_engine.facts or flash_engine.facts["pid"] == before:
        time.sleep(0.01)
    time.sleep(0.05 * lines)
    go.touch()
    os.kill(running.pid, signal.SIGCONT)
    assert running.communicate(timeout=60)[0] == b"8\n"
    assert f"line {lines - 1}" in shown.read_text()


def wait_for(file: Path, text: str) -> None:
    limit = time.monotonic() + 60
    while text not in file.read_text():
        assert time.monotonic() < limit, file.read_text()
        time.sleep(0.01)
