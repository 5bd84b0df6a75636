"""What a worker's environment is to the function that runs in it: the user's own versions, files and log lines."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from pydantic import VERSION, BaseModel, Field, field_validator

from runpod_flash import CpuLiveServerless, EncodingError, RemoteError, remote
from runpod_flash.testing import isolated_engine

config = CpuLiveServerless("environment", workersMax=1)

OTHERS: Final = {
    "cloudpickle": "2.2.1",
    "typing_extensions": "4.12.2",
    "uvloop": "0.21.0",
    "msgspec": "0.20.0",
    "pydantic": "2.8.2",
    # Arrays go between NumPy 1 and 2; the first has none for newer versions of Python.
    "numpy": "1.26.4" if sys.version_info < (3, 13) else "2.1.3",
}
"""Versions that are not those of this program."""
DEPENDENCIES: Final = [f"{name}=={version}" for name, version in OTHERS.items()]


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    """One engine for all tests of this file."""
    with isolated_engine(FLASH_APP="environment"):
        yield


class Reading(BaseModel):
    station: str = Field(min_length=1)
    celsius: list[float] = []

    @field_validator("station")
    @classmethod
    def named_in_capitals(cls, name: str) -> str:
        return name.upper()


@dataclass
class Grid:
    cells: np.ndarray[Any, Any]
    name: str = "grid"


def test_a_function_imports_the_versions_that_it_declared_and_never_ours() -> None:
    @remote(config, dependencies=DEPENDENCIES, max_retries=0)
    def versions(names: list[str]) -> dict[str, str]:
        import importlib
        import importlib.metadata
        import sys

        ours = [name for name in names if name in sys.modules]
        assert not ours, f"{ours} came with the worker"
        for name in names:
            assert importlib.import_module(name).__file__.startswith(sys.prefix)  # type: ignore[union-attr]
        return {name: importlib.metadata.version(name) for name in names}

    assert versions.sync(list(OTHERS)).unwrap() == OTHERS


def test_what_the_environment_has_not_the_function_cannot_import() -> None:
    @remote(config, max_retries=0)
    def bare(names: list[str]) -> list[str]:
        import importlib.util

        return [name for name in names if importlib.util.find_spec(name)]

    assert (
        bare.sync(["cloudpickle", "uvloop", "numpy", "pydantic", "blake3", "click", "psutil", "pytest"]).unwrap() == []
    )


def test_models_dataclasses_and_arrays_go_there_and_come_back() -> None:
    @remote(config, dependencies=[f"pydantic=={VERSION}"], max_retries=0)
    def warmer(reading: Reading) -> Reading:
        return Reading(station=reading.station + "b", celsius=[value + 1 for value in reading.celsius])

    @remote(config, dependencies=DEPENDENCIES, max_retries=0)
    async def doubled(grid: Grid) -> Grid:
        return Grid(grid.cells * 2, grid.name + "s")

    reading = warmer.sync(Reading(station="a", celsius=[1.5])).unwrap()
    assert type(reading) is Reading
    assert reading == Reading(station="AB", celsius=[2.5])
    grid = doubled.sync(Grid(np.arange(100_000.0))).unwrap()
    assert type(grid) is Grid
    assert (grid.cells == np.arange(100_000.0) * 2).all()
    assert grid.name == "grids"


def test_models_that_another_version_of_their_library_cannot_read_are_explained_at_both_ends() -> None:
    @remote(config, dependencies=DEPENDENCIES, max_retries=0)
    def station(reading: Reading) -> str:
        return reading.station

    @remote(config, dependencies=DEPENDENCIES, max_retries=0)
    def made_there() -> object:
        import pydantic

        return pydantic.create_model("Made", number=(int, 1))()

    job = station.sync(Reading(station="a"))
    assert job.error is not None
    assert f"a class that pydantic {VERSION} made cannot be read here, where pydantic 2.8.2 is installed" in job.error
    assert f'dependencies=["pydantic=={VERSION}"]' in job.error
    with pytest.raises(EncodingError, match=rf"that pydantic 2.8.2 made .* where pydantic {VERSION} is installed"):
        made_there.sync()


def test_a_users_own_pickling_in_a_worker_uses_the_users_own_cloudpickle() -> None:
    @remote(config, dependencies=DEPENDENCIES, max_retries=0)
    def pickled() -> tuple[str, int]:
        import pickle

        import cloudpickle

        return cloudpickle.__version__, pickle.loads(cloudpickle.dumps(lambda x: x + 1))(1)

    assert pickled.sync().unwrap() == ("2.2.1", 2)


def test_a_caller_whose_interpreter_is_gone_gets_another_of_its_version_and_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from runpod_flash import CpuLiveServerless, remote\n"
        "sys._base_executable = '/removed/bin/python3'\n"
        "@remote(CpuLiveServerless('environment', workersMax=1))\n"
        "def version():\n"
        "    import sys\n"
        "    return sys.version_info[:2]\n"
        "print(version.sync() == sys.version_info[:2])\n"
    )
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert said.stdout == "True\n"
    assert "/removed/bin/python3 is gone, using" in said.stderr


# ── files and log lines ───────────────────────────────────────────────────────────────────────────


def test_a_relative_path_that_is_missing_there_and_exists_here_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @remote(config, max_retries=0)
    def read(path: str) -> str:
        with open(path) as file:
            return file.read()

    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("text")
    job = read.sync("here.txt")
    assert job.error is not None
    assert f"'here.txt' is in that of this program, {tmp_path}" in job.error
    assert "os.path.abspath('here.txt')" in job.error
    with pytest.raises(FileNotFoundError, match="a worker has a folder of its own"):
        job.unwrap()
    assert read.sync(os.path.abspath("here.txt")).unwrap() == "text"
    elsewhere = read.sync("nowhere.txt")
    assert elsewhere.error == "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.txt'"
    with pytest.raises(RemoteError):
        elsewhere["line"]  # type: ignore[index]


log = logging.getLogger("users.own")


@pytest.mark.parametrize(
    ("level", "lines"),
    [
        (None, ['INFO users.own: an event who="me" n=1', "WARNING users.own: another"]),
        ("DEBUG", ["DEBUG users.own: a detail", 'INFO users.own: an event who="me" n=1', "WARNING users.own: another"]),
        ("warning", ["WARNING users.own: another"]),
    ],
)
def test_workers_log_from_info_on_or_from_where_log_level_says(
    level: str | None, lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    @remote(config, env={"LOG_LEVEL": level} if level else None, max_retries=0)
    def speak() -> None:
        log.debug("a detail")
        log.info("an event", extra={"who": "me", "n": 1})
        log.warning("another")

    assert speak.sync().error is None
    assert [line.partition("] ")[2] for line in capfd.readouterr().err.splitlines()] == lines


def test_a_forgotten_await_is_warned_of_with_the_functions_name_and_the_users_line(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from runpod_flash import CpuLiveServerless, LiveLoadBalancer, remote\n"
        "@remote(CpuLiveServerless('environment'))\n"
        "def plain(): ...\n"
        "@remote(LiveLoadBalancer('environment'))\n"
        "async def routed(): ...\n"
        "async def main():\n"
        "    plain()\n"
        "    plain.spawn()\n"
        "    routed.local()\n"
        "asyncio.run(main())\n"
    )
    said = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True).stderr
    warned = [line.removeprefix(f"{program}:") for line in said.splitlines() if "never awaited" in line]
    assert warned == [
        "8: RuntimeWarning: coroutine 'plain' was never awaited",
        "9: RuntimeWarning: coroutine 'plain' was never awaited",
        "10: RuntimeWarning: coroutine 'routed' was never awaited",
    ]
