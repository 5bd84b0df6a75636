"""The gallery, served once for all tests of it, by an engine of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from runpod_flash.apps.discovery import find_examples
from runpod_flash.testing import isolated_engine

GALLERY = Path(__file__).parents[2] / "examples"
EXAMPLES = {f"{one.category}/{one.name}": one.folder for one in find_examples(GALLERY)}
HEAVY = (
    "02_ml_inference/01_text_embeddings",
    "02_ml_inference/02_document_ocr",
    "05_data_workflows/02_media_processing",
)
"""Those whose workers install some hundred megabytes; TEST_EXAMPLES=1, as of `make test-examples`, runs them too."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "heavy: installs large packages for workers; runs with TEST_EXAMPLES=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is heavy is left out unless it is asked for."""
    if os.environ.get("TEST_EXAMPLES"):
        return
    for item in items:
        if item.get_closest_marker("heavy"):
            item.add_marker(pytest.mark.skip(reason="make test-examples runs it"))


@dataclass(frozen=True)
class Served:
    """Where the gallery answers, and what a shell beside it needs."""

    url: str
    environ: dict[str, str]
    client: httpx.Client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.url + path)

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The gallery behind `flash run`."""
    log = tmp_path_factory.mktemp("gallery") / "server.log"
    with isolated_engine(), httpx.Client(timeout=60) as client:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environ = {**os.environ, "PATH": path, "WEBHOOK_SECRET": "for-this-example"}
        with _running(["flash", "run", "--no-reload", "--port", "0"], environ, log) as server:
            yield Served(_address(server, log), environ, client)


@contextlib.contextmanager
def _running(command: list[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=GALLERY, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    """Where it says that it serves, as soon as it does."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        if found := re.search(r"http://localhost:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"flash run does not serve:\n{log.read_text()}")
