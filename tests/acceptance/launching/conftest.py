"""One engine for each file of this folder, and a folder for the programs of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.acceptance.launching.programs import Programs


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[IsolatedEngine]:
    """The engine of the programs that a file of tests starts."""
    with isolated_engine(FLASH_APP="launching") as engine:
        yield engine


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """A folder of this test's own."""
    return Programs(tmp_path)
