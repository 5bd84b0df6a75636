from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runpod_flash.host import machine


def nvidia_smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_cards_are_read_from_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(
        tmp_path, "echo '0, NVIDIA A100-SXM4-80GB, 81920'; echo '1, NVIDIA GB10, with comma, [N/A]'", monkeypatch
    )
    assert machine.find_gpus() == ([(0, "NVIDIA A100-SXM4-80GB", 81920), (1, "NVIDIA GB10, with comma", 0)], "")


def test_a_machine_without_a_driver_has_no_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.find_gpus() == ([], "")


def test_a_driver_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, "echo 'NVML: Driver/library version mismatch'; exit 18", monkeypatch)
    assert machine.find_gpus() == ([], "nvidia-smi: NVML: Driver/library version mismatch")


def test_a_driver_that_hangs_costs_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, "exec sleep 60", monkeypatch)
    monkeypatch.setattr(machine, "_NVIDIA_SMI_LIMIT_S", 0.2)
    began = time.monotonic()
    cards, trouble = machine.find_gpus()
    assert cards == []
    assert "timed out" in trouble
    assert time.monotonic() - began < 5


def test_the_limits_of_a_control_group_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text(f"{256 * 1024 * 1024}\n")
    (tmp_path / "memory.current").write_text(f"{250 * 1024 * 1024}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {122 * 1024 * 1024}\n")
    assert machine.count_cpus(tmp_path) == 1
    assert machine.total_memory_mb(tmp_path) == 256
    assert machine.available_share(tmp_path) == pytest.approx(0.5)


def test_no_limits_are_no_limits(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.count_cpus(tmp_path) == len(os.sched_getaffinity(0))
    assert machine.total_memory_mb(tmp_path) > 256
    assert 0 < machine.available_share(tmp_path) <= 1
