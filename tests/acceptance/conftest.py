"""Blocks of the specification run as a user's program."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine


def pytest_configure(config: pytest.Config) -> None:
    """A block of the guidelines marks a test for a plugin that nothing here needs."""
    config.addinivalue_line("markers", "asyncio: a test that is awaited")


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    """An engine for the tests of one file, which they leave as they found it."""
    with isolated_engine() as one:
        yield one


Run = Callable[[str], dict[str, Any]]


async def _execute(text: str, file: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    code = compile(text, str(file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    running = eval(code, vars(module))
    if inspect.iscoroutine(running):
        await running
    return vars(module)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a text as a file of the user's and gives its names.

    `await` may stand at its top, as in the blocks and in `python -m asyncio`.
    """
    file = tmp_path / "program.py"

    def ran(text: str) -> dict[str, Any]:
        file.write_text(text, encoding="utf-8")
        return asyncio.run(_execute(text, file))

    yield ran
    sys.modules.pop(file.stem, None)
