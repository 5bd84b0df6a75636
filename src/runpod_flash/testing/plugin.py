"""Fixtures for pytest: `pytest_plugins = ["runpod_flash.testing.plugin"]` in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runpod_flash.testing.isolated import IsolatedEngine, isolated_engine


@pytest.fixture
def flash_engine() -> Iterator[IsolatedEngine]:
    """An engine for this test alone; the test fails if anything of it is left behind."""
    with isolated_engine() as engine:
        yield engine
