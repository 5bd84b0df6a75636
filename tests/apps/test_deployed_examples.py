"""What `flash run` serves without a main.py is served in the same way when it is deployed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.apps.galleries import write

FLASH = Path(sys.executable).with_name("flash")
WORKER = """
from fastapi import APIRouter
from runpod_flash import CpuLiveServerless, remote

from helper import WORD

cpu_router = APIRouter()

@remote(CpuLiveServerless(name="{name}", workersMax=1))
async def say(text: str) -> str:
    return f"{{WORD}} {{text}}"

@cpu_router.get("/say")
async def route(text: str) -> str:
    return (await say(text)).output
"""
MOTHERSHIP = """
from runpod_flash import CpuLiveLoadBalancer

mothership = CpuLiveLoadBalancer(name="front", workersMin=1)
"""
PROJECT = '[project]\nname = "{name}"\nversion = "1"\ndependencies = ["fastapi"]\n'


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    with isolated_engine() as one:
        yield one


def deployed(engine: IsolatedEngine, root: Path) -> httpx.Client:
    environ = {**engine.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [FLASH, "deploy", "--yes", "--json"], cwd=root, env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    token = (engine.home / "token").read_text().strip()
    url = json.loads(ended.stdout)["url"]
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def test_a_gallery_is_deployed_with_the_functions_of_all_its_examples(engine: IsolatedEngine, tmp_path: Path) -> None:
    files = {"mothership.py": MOTHERSHIP, "pyproject.toml": PROJECT.format(name="gallery")}
    for number, word in (("01", "one"), ("02", "two")):
        folder = f"01_getting_started/{number}_{word}"
        files |= {
            f"{folder}/cpu_worker.py": WORKER.format(name=f"gallery_{word}"),
            f"{folder}/helper.py": f"WORD = {word!r}\n",
            f"{folder}/mothership.py": MOTHERSHIP.replace("front", f"front_{word}"),
        }
    write(tmp_path, files)
    with deployed(engine, tmp_path) as client:
        for number, word in (("01", "one"), ("02", "two")):
            answer = client.get(f"/{number}_{word}/cpu/say", params={"text": "hello"})
            assert answer.json() == f"{word} hello", answer.text
        assert client.get("/health").json()["total_examples"] == 2
    manifest = json.loads((tmp_path / "flash_manifest.json").read_text())
    assert [(one["method"], one["path"]) for one in manifest["routes"]] == [
        ("GET", "/01_one/cpu/say"), ("GET", "/02_two/cpu/say"),
    ]  # fmt: skip
    assert manifest["mothership"]["name"] == "front"


def test_an_example_of_routers_alone_is_deployed_as_it_is_run(engine: IsolatedEngine, tmp_path: Path) -> None:
    root = tmp_path / f"alone {os.getpid()}"
    files = {"mothership.py": MOTHERSHIP, "pyproject.toml": PROJECT.format(name="alone")}
    files |= {"helper.py": "WORD = 'alone'\n", "cpu_worker.py": WORKER.format(name="alone_cpu")}
    write(root, files)
    with deployed(engine, root) as client:
        assert client.get("/cpu/say", params={"text": "hello"}).json() == "alone hello"
    manifest = json.loads((root / "flash_manifest.json").read_text())
    assert [one["name"] for one in manifest["functions"]] == ["cpu_worker:say"]
