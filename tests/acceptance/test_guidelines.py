"""The blocks of the guidelines that are about apps, word for word, in a project that `flash init` makes."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import ValidationError

from runpod_flash.apps import unified_app
from tests.acceptance.blocks import BLOCKS, piece
from tests.acceptance.conftest import Run
from tests.apps.galleries import write

FLASH = str(Path(sys.executable).with_name("flash"))


def made(folder: Path, *words: str) -> Path:
    """What `flash init` makes."""
    subprocess.run([FLASH, "init", str(folder), *words], check=True, capture_output=True)
    return folder


def answers(app: Any, *bodies: tuple[str, dict[str, Any]]) -> list[httpx.Response]:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return [await client.post(path, json=body) for path, body in bodies]

    return asyncio.run(ask())


def test_both_ways_to_export_a_router_are_found_and_served(tmp_path: Path) -> None:
    single = made(tmp_path / "03_advanced_workers" / "my_example", "--single-file")
    write(single, {"gpu_worker.py": BLOCKS["guidelines-router"]})
    directory = made(tmp_path / "03_advanced_workers" / "other")
    write(directory, {
        "workers/gpu/__init__.py": BLOCKS["guidelines-directory-router"],
        "workers/gpu/endpoint.py": "async def my_endpoint(request):\n    return {'got': request.input_data}\n",
    })  # fmt: skip
    body = {"input_data": "x"}
    one, alias, two = answers(
        unified_app(tmp_path),
        ("/my_example/gpu/endpoint", body),
        ("/03_advanced_workers/my_example/endpoint", body),
        ("/03_advanced_workers/other/endpoint", body),
    )
    assert one.json() == alias.json() == {"status": "success", "result": "..."}
    assert two.json() == {"got": "x"}


def test_input_is_validated_as_the_models_say(run: Run) -> None:
    names = run(BLOCKS["guidelines-validation"])
    request, response = names["ProcessRequest"], names["ProcessResponse"]
    good = {"image_url": "https://example.com/image.jpg", "email": "somebody@example.com"}
    assert request(**good).quality == 90
    for bad in ({"quality": 101}, {"quality": 0}, {"email": "nobody"}, {"image_url": None}):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            request(**{**good, **bad})
    assert response(status="success", result={}, processing_time=0.5).processing_time == 0.5


def test_errors_become_answers_without_internals(run: Run) -> None:
    above = """
import structlog
from fastapi import APIRouter

logger = structlog.get_logger()
router = APIRouter()
raised = [None, ValueError("no such image"), RuntimeError("password in the message")]

async def execute_processing(request):
    if error := raised.pop(0):
        raise error
    return {"quality": request.quality}
"""
    names = run(above + BLOCKS["guidelines-validation"] + _timed(BLOCKS["guidelines-errors"]))
    router = names["router"]
    assert isinstance(router, APIRouter)
    app = FastAPI()
    app.include_router(router)
    body = {"image_url": "https://example.com/image.jpg", "email": "somebody@example.com"}
    good, bad, broken = answers(app, *[("/process", body)] * 3)
    assert (good.status_code, good.json()["result"]) == (200, {"quality": 90})
    assert (bad.status_code, bad.json()) == (400, {"detail": "Invalid input: no such image"})
    assert (broken.status_code, broken.json()) == (500, {"detail": "Processing failed. Check server logs."})


def _timed(block: str) -> str:
    """The block of the models wants a `processing_time`, which the one of the errors does not give."""
    return "\nProcessResponse.model_fields['processing_time'].default = 0.0\n" + (
        "ProcessResponse.model_rebuild(force=True)\n" + block
    )


def test_functions_with_and_without_type_hints_do_the_same(run: Run) -> None:
    for start, stop in (("# ✅", "# ❌"), ("# ❌", "")):
        names = run("import numpy as np\n" + piece("guidelines-type-hints", start, stop))
        assert names["calculate_features"]([[0]], 0.5) is None


def test_early_returns_and_nested_conditions_do_the_same(run: Run) -> None:
    above = "async def download_image(url): return url\ndef extract_features(image): return {'features': image}\n"
    for start, stop in (("# ✅", "# ❌"), ("# ❌", "")):
        process = run(above + piece("guidelines-early-returns", start, stop))["process_image"]
        assert asyncio.run(process("https://x/image.jpg")) == {"features": "https://x/image.jpg"}
        for url, said in (("", "URL is required"), ("ftp://x", "Invalid URL scheme")):
            with pytest.raises(ValueError, match=said):
                asyncio.run(process(url))


def test_logging_has_its_fields(run: Run, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO):
        run("url, user_id = 'https://x', 7\n" + BLOCKS["guidelines-logging"])
    started, failed = caplog.records
    assert (started.getMessage(), vars(started)["image_url"], vars(started)["user_id"]) == (
        "Processing started",
        "https://x",
        7,
    )
    assert (failed.levelname, vars(failed)["url"]) == ("ERROR", "https://x")
    assert capsys.readouterr().out == "Processing https://x\nERROR: Download failed\n"


def test_a_key_comes_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "from outside")
    assert run(piece("guidelines-credentials", "# ✅", "# ❌"))["api_key"] == "from outside"
    assert run(piece("guidelines-credentials", "# ❌"))["api_key"] == "sk-1234567890abcdef"


def test_an_async_test_passes_under_the_plugin(tmp_path: Path) -> None:
    project = made(tmp_path / "app")
    above = (
        "from workers.cpu.endpoint import cpu_hello\n"
        "async def process_image(url):\n"
        "    job = await cpu_hello.local(url)\n"
        "    return {'status': job['status'], 'features': job['words']}\n\n"
    )
    write(project, {"tests/test_block.py": above + BLOCKS["guidelines-async-testing"]})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_block.py"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
