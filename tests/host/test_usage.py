"""What workers and cards use, measured on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runpod_flash.host import usage
from runpod_flash.host.commands import Result
from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import Children
from runpod_flash.host.usage import Usage

BUSY = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "ballast = bytearray(40_000_000); print(flush=True); input()"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(flush=True)
while os.getppid() != 1: pass
"""


class Running(NamedTuple):
    """A worker that is only its process."""

    id: str
    pid: int


@pytest.fixture
def busy() -> Iterator[Running]:
    """A worker that keeps a processor busy, with a child that has 40 MB."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, start_new_session=True, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield Running("w1", process.pid)
    os.killpg(process.pid, 9)
    process.wait()
    process.stdout.close()


def measured(workers: list[Running], *, cards: bool = False) -> list[dict[str, Any]]:
    loop = Loop(print)
    answers: list[list[dict[str, Any]]] = []
    children = Children(loop)
    try:
        with_usage = Usage(workers, loop, children, cards=cards)
        with_usage.measure(answers.append)
        with_usage.measure(answers.append)
        limit = time.monotonic() + 20
        while len(answers) < 2 and time.monotonic() < limit:
            loop.turn(0.1)
    finally:
        children.close()
    assert answers[0] == answers[1], "who asks meanwhile gets the same"
    return answers[0]


def test_a_worker_is_measured_with_all_that_it_has_started(busy: Running) -> None:
    (row,) = measured([busy])
    assert (row["worker"], row["processes"]) == ("w1", 2)
    assert row["memory_kb"] > 40_000
    assert row["cpu_percent"] > 5


def test_nothing_to_measure_is_answered_at_once() -> None:
    assert measured([]) == []


def test_a_worker_that_is_gone_is_no_row() -> None:
    assert measured([Running("w1", (1 << 22) + 1)]) == []


def test_cards_tell_what_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, NVIDIA L4, 23034, 45, 12288'; echo '1, NVIDIA GB10, x, [N/A], 7, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert measured([], cards=True) == [
        {"gpu": 0, "name": "NVIDIA L4", "percent": 45, "memory_mb": 23034, "memory_used_mb": 12288},
        {"gpu": 1, "name": "NVIDIA GB10, x", "percent": 7, "memory_mb": None, "memory_used_mb": None},
    ]


def test_a_driver_that_hangs_costs_only_its_own_facts(
    busy: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "LIMIT_S", 0.5)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert [row["worker"] for row in measured([busy], cards=True)] == ["w1"]


def test_what_a_broken_driver_says_is_nothing() -> None:
    assert usage.read_cards(Result(1, "NVML: mismatch\n", "")) == []
    assert usage.read_cards(None) == []
