"""accelerate_downloads of `@remote`, with the mirror that is configured."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.testing import IsolatedEngine
from tests.host.index import served


def test_a_function_fetches_from_the_mirror_and_its_caller_sees_that(
    flash_engine: IsolatedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"flashtest{uuid.uuid4().hex[:12]}"

    @remote(CpuLiveServerless(name="fast"), dependencies=[name], accelerate_downloads=True)
    async def whose() -> Any:
        import importlib

        return importlib.import_module(name).__name__

    with served(tmp_path / "usual") as usual, served(tmp_path / "mirror") as mirror:
        usual.add(name)
        mirror.add(name)
        monkeypatch.setenv("UV_DEFAULT_INDEX", usual.url)
        monkeypatch.setenv("FLASH_MIRROR", mirror.url)

        assert whose.sync().unwrap() == name

    assert (len(mirror.files), usual.files) == (1, [])
    assert f"packages came from the mirror {mirror.url}" in capfd.readouterr().err
