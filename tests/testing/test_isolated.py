from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.testing import IsolatedEngine, LeftBehind, isolated_engine
from tests.disasters.scene import lives

cpu = CpuLiveServerless(name="isolated", workersMax=1)


@remote(cpu)
def whose() -> tuple[int, str]:
    import os

    return os.getpid(), os.getcwd()


def test_a_call_in_the_block_runs_there_and_nothing_is_there_afterwards() -> None:
    before = dict(os.environ)
    with isolated_engine() as engine:
        assert not engine.home.exists(), "nothing starts before the first call"
        pid, folder = whose.sync().unwrap()
        assert engine.workers() == [pid]
        assert Path(folder).is_relative_to(engine.run_folder)
        running = engine.processes()
        assert {engine.facts["pid"], pid} <= {one.pid for one in running}
    assert not any(lives(one) for one in running)
    assert not engine.home.exists()
    assert not engine.run_folder.exists()
    assert dict(os.environ) == before


def test_the_fixture_is_one(flash_engine: IsolatedEngine) -> None:
    async def main() -> None:
        assert (await whose()).error is None

    asyncio.run(main())
    assert flash_engine.facts["version"]


def test_two_blocks_one_in_the_other_are_two_engines() -> None:
    with isolated_engine() as outer:
        first = whose.sync().unwrap()[0]
        with isolated_engine() as inner:
            second = whose.sync().unwrap()[0]
            assert inner.workers() == [second]
        assert outer.workers() == [first]
        assert whose.sync().unwrap()[0] == first


def test_variables_of_the_surroundings_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASH_APP", "somebody's")
    monkeypatch.setenv("FLASH_HOME", "/nowhere")
    with isolated_engine(FLASH_DURABILITY="power") as engine:
        assert "FLASH_APP" not in engine.environ
        assert engine.environ["FLASH_DURABILITY"] == "power"
        assert engine.environ["FLASH_HOME"] == str(engine.home)
    assert os.environ["FLASH_APP"] == "somebody's"


def test_a_folder_of_ones_own_is_kept(tmp_path: Path) -> None:
    with isolated_engine(tmp_path / "kept"):
        whose.sync()
    assert (tmp_path / "kept" / "store.sqlite").exists()


def test_whatever_stays_is_an_error_that_names_it_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runpod_flash.testing.isolated.PATIENCE_S", 0.5)
    block = isolated_engine()
    engine = block.__enter__()
    engine.home.mkdir()
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd=engine.home)
    with pytest.raises(LeftBehind, match=f"process {stray.pid}: .* -c import time"):
        block.__exit__(None, None, None)
    assert stray.wait(5) < 0
    assert not engine.home.exists()


def test_an_engine_that_was_killed_is_nobody_s_fault() -> None:
    with isolated_engine() as engine:
        whose.sync()
        for one in engine.processes():
            one.kill()
        psutil.wait_procs(engine.processes(), timeout=10)
