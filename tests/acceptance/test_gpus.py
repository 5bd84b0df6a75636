"""Graphics cards are found, leased to one worker at a time, and missed aloud. The cards are of a stand-in's telling:
a program called nvidia-smi; everything that asks it and acts on it is real."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from runpod_flash import ConfigError, CpuLiveServerless, GpuGroup, GpuType, LiveServerless, PodTemplate, remote
from runpod_flash.testing import IsolatedEngine


@pytest.fixture
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two RTX 4090."""
    stand_in(tmp_path, monkeypatch, "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 4090")


@pytest.fixture
def mixed_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an A40 and an RTX 4090."""
    stand_in(tmp_path, monkeypatch, "NVIDIA A40", "NVIDIA GeForce RTX 4090")


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *cards: str) -> None:
    """The driver's program, which tells of these cards."""
    program = folder / "nvidia-smi"
    told = "".join(f"echo '{index}, {card}, 24564'\n" for index, card in enumerate(cards))
    program.write_text(f"#!/bin/sh\n{told}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def exact_engine(flash_engine: IsolatedEngine, monkeypatch: pytest.MonkeyPatch) -> IsolatedEngine:
    """Calls of this test want the hardware they ask for, or none."""
    monkeypatch.setenv("FLASH_HARDWARE", "exact")
    return flash_engine


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


def test_a_worker_gets_a_card_of_the_kind_that_was_asked_for(
    mixed_cards: None, flash_engine: IsolatedEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    ada = remote(LiveServerless(name="ada", gpus=[GpuGroup.ADA_24]))(meet)
    named = remote(LiveServerless(name="a40", gpus=[GpuGroup.HOPPER_141, GpuType.NVIDIA_A40]))(meet)
    assert ada.sync(str(tmp_path / "here"), 1).unwrap() == "1"
    assert named.sync(str(tmp_path / "here"), 1).unwrap() == "0"
    assert "asks for" not in capfd.readouterr().err


def test_more_than_there_is_is_clamped_with_one_warning_each_however_many_functions(
    two_cards: None, flash_engine: IsolatedEngine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    config = LiveServerless(
        name="huge", gpus=[GpuGroup.ADA_24], gpuCount=8, podTemplate=PodTemplate(memory_gb=10**6, cpu_count=10**6)
    )

    def other() -> str:
        return "other"

    assert remote(config)(meet).sync(str(tmp_path / "here"), 1).unwrap() == "0,1"
    assert remote(config)(other).sync().unwrap() == "other"
    said = [line.partition("huge' asks for ")[2] for line in capfd.readouterr().err.splitlines() if "asks for" in line]
    assert [line.partition(",")[0] for line in said] == ["8 × ADA_24", "1000000 GB of memory", "1000000 CPUs"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (LiveServerless(name="exact_card", gpus=[GpuGroup.HOPPER_141]), "asks for 1 × HOPPER_141, and this"),
        (LiveServerless(name="exact_count", gpuCount=3), "asks for 3 GPUs, and this machine has 2"),
        (CpuLiveServerless(name="exact_cpus", cpuCount=10**6), "asks for 1000000 CPUs"),
        (CpuLiveServerless(name="exact_memory", podTemplate=PodTemplate(memory_gb=10**6)), "1000000 GB of memory"),
    ],
)
def test_exactly_that_hardware_or_a_refusal_before_anything_waits(
    two_cards: None, exact_engine: IsolatedEngine, config: LiveServerless | CpuLiveServerless, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        remote(config)(meet).sync("folder", 1)
    assert 'hardware is "exact"' in str(caught.value)
    assert "test_gpus.py:" in str(caught.value)
    assert exact_engine.workers() == []


def test_what_is_there_exactly_is_given(two_cards: None, exact_engine: IsolatedEngine, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    see = remote(LiveServerless(name="exactly", gpus=[GpuGroup.ADA_24], gpuCount=2))(meet)
    assert see.sync(str(tmp_path / "here"), 1).unwrap() == "0,1"


def test_a_project_can_ask_for_exact_hardware(
    flash_engine: IsolatedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.flash]\nhardware = "exact"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="asks for a GPU, and this machine has no GPU"):
        remote(LiveServerless(name="in_a_project"))(meet).sync("folder", 1)
