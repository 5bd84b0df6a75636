"""Graphics cards are found, leased to one worker at a time, and missed aloud. The cards are of a stand-in's telling:
a program called nvidia-smi; everything that asks it and acts on it is real."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from runpod_flash import GpuGroup, LiveServerless, remote
from runpod_flash.testing import IsolatedEngine


@pytest.fixture
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two RTX 4090."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho '0, NVIDIA GeForce RTX 4090, 24564'\necho '1, NVIDIA GeForce RTX 4090, 24564'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


async def meet(folder: str, others: int) -> str:
    """The cards of this worker, once so many workers are here at the same time."""
    import asyncio
    import os
    from pathlib import Path

    (Path(folder) / str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < others:
        await asyncio.sleep(0.01)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "none set")


def test_each_worker_has_a_card_to_itself(two_cards: None, flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    config = LiveServerless(name="cards", gpus=[GpuGroup.ADA_24], workersMax=4)
    see = remote(resource_config=config)(meet)
    (tmp_path / "here").mkdir()

    async def both() -> list[str]:
        jobs = await asyncio.gather(*(see(str(tmp_path / "here"), 2) for _ in range(2)))
        return [job.unwrap() for job in jobs]

    assert sorted(asyncio.run(both())) == ["0", "1"]


def test_a_function_that_asks_for_two_cards_gets_both(
    two_cards: None, flash_engine: IsolatedEngine, tmp_path: Path
) -> None:
    config = LiveServerless(name="pair", gpus=[GpuGroup.ADA_24, GpuGroup.ADA_24])
    (tmp_path / "here").mkdir()
    assert remote(resource_config=config)(meet).sync(str(tmp_path / "here"), 1).unwrap() == "0,1"


def test_another_card_than_the_one_asked_for_is_used_and_named_once(
    two_cards: None, flash_engine: IsolatedEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    see = remote(resource_config=LiveServerless(name="dear", gpus=[GpuGroup.HOPPER_141]))(meet)
    (tmp_path / "here").mkdir()
    assert see.sync(str(tmp_path / "here"), 1).unwrap() in {"0", "1"}
    assert see.sync(str(tmp_path / "here"), 1).unwrap() in {"0", "1"}
    said = [line for line in capfd.readouterr().err.splitlines() if "dear" in line]
    assert len(said) == 1
    assert "HOPPER_141" in said[0]
    assert "RTX 4090" in said[0]


def test_a_machine_without_cards_runs_it_on_the_processor_and_says_so_once(
    flash_engine: IsolatedEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    see = remote(resource_config=LiveServerless(name="none"))(meet)
    (tmp_path / "here").mkdir()
    for _ in range(2):
        assert see.sync(str(tmp_path / "here"), 1).error is None
    said = [line for line in capfd.readouterr().err.splitlines() if "GPU" in line]
    assert len(said) == 1
    assert "CPU" in said[0]
