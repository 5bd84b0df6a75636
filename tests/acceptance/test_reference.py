"""The code blocks of the specification, word for word, on a real engine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.acceptance.blocks import BLOCKS
from tests.acceptance.cases import CASES, HEAD, Case
from tests.acceptance.conftest import Run
from tests.acceptance.standins import World, install, world
from tests.acceptance.test_volumes import MOUNTS


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def engine(outside: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedEngine]:
    """One for all blocks, in a program that has the packages which they import."""
    site = tmp_path_factory.mktemp("site-packages")
    install(site, outside)
    with pytest.MonkeyPatch.context() as patch, isolated_engine(FLASH_APP="blocks") as started:
        patch.syspath_prepend(str(site))
        patch.setenv("UV_INDEX", f"{outside.url}/simple")
        patch.setenv("API_KEY", "the caller's")
        yield started
    for name in ("torch", "transformers", "boto3"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
@pytest.mark.filterwarnings("ignore:Unknown pytest.mark.asyncio")
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_block_runs_as_it_stands(case: Case, outside: World, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    if case.block == "volume" and not MOUNTS:
        pytest.skip("processes cannot have a view of the files of their own here")
    program = run(outside.rewritten(case.program()))

    assert program["shown"] == case.shown
    assert case.says in "".join(capfd.readouterr())


@pytest.mark.skipif("TEST_SYSTEM" not in os.environ, reason="takes a minute: make test-system")
@pytest.mark.usefixtures("engine")
def test_the_block_of_system_packages_runs(run: Run) -> None:
    shown = run(f"{HEAD}{BLOCKS['system-packages']}\nshown = (await process_video('tea')).unwrap()\n")["shown"]
    assert shown == {"ffmpeg": "available"}


@pytest.mark.usefixtures("engine")
def test_the_other_name_of_the_package_does_the_same(run: Run) -> None:
    text = BLOCKS["load-balanced-value"].replace("tetra_rp", "runpod_flash")
    assert run(text)["result"] == {"result": "success"}


def test_a_load_balanced_block_answers_over_http_too(engine: IsolatedEngine, run: Run) -> None:
    run(BLOCKS["load-balanced-value"])
    token = (engine.home / "token").read_text().strip()
    url = f"{engine.facts['gateway_url']}/lb/api/inference"
    with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=30) as client:
        good, bad = (client.post(url, json={"invalid": invalid}) for invalid in (False, True))
    assert (good.status_code, good.json()) == (200, {"result": "success"})
    assert (bad.status_code, bad.json()) == (400, {"detail": "Invalid input"})


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
@pytest.mark.usefixtures("engine")
def test_models_travel_also_where_annotations_are_text(outside: World, run: Run) -> None:
    (case,) = (case for case in CASES if case.block == "pydantic")
    assert run("from __future__ import annotations\n" + outside.rewritten(case.program()))["shown"] == case.shown


@pytest.mark.usefixtures("engine")
def test_a_forgotten_await_is_warned_of_when_it_is_forgotten(run: Run) -> None:
    above = f"{HEAD}@remote(config)\nasync def my_remote_function(data): return data\ndata = 1\n"
    with pytest.warns(RuntimeWarning, match="'my_remote_function' was never awaited"):
        program = run(above + BLOCKS["gotcha-await"])
    assert program["result"].output == 1


TESTED: Final = """
import asyncio
import os
import app

def test_it():
    assert asyncio.run(app.my_function({})).output == {"status": "ok"}
    assert (asyncio.run(app.where()).output == os.getpid()) is app.LOCAL_TEST
"""
TESTING: Final = f"""{HEAD}{BLOCKS["testing"]}
@remote(resource_config=config, local=LOCAL_TEST)
async def where():
    return os.getpid()
"""


@pytest.mark.parametrize("local", ["True", "False"])
def test_one_test_passes_in_this_process_and_on_workers(engine: IsolatedEngine, tmp_path: Path, local: str) -> None:
    (tmp_path / "app.py").write_text(TESTING)
    (tmp_path / "test_app.py").write_text(TESTED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_app.py"],
        cwd=tmp_path,
        env={**engine.environ, "LOCAL_TEST": local, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_local_mode_no_engine_is_started(run: Run) -> None:
    with isolated_engine() as alone:
        job = run(HEAD + "async def nothing(): ...\n" + BLOCKS["local"])["result"]
        assert (job.status, job.output) == ("COMPLETED", {"status": "success"})
        assert not alone.home.exists()
        assert alone.processes() == []


VALUES: Final = [{"a": [1]}, [1], (1, 2), {1, 2}, "text", 1, 1.5, True, None]


@pytest.mark.usefixtures("engine")
def test_values_of_the_builtin_types_travel(run: Run) -> None:
    look = "@remote(config)\nasync def look_at(value): return type(value).__name__, value\n"
    shown = run(f"{HEAD}{look}shown = [(await look_at(value)).output for value in {VALUES!r}]\n")["shown"]
    assert shown == [(type(value).__name__, value) for value in VALUES]
