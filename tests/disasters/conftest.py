"""One scene for a file where the tests can share it, else one for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.disasters.scene import Scene, set_up


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One scene for all tests of a file."""
    with set_up(tmp_path_factory.mktemp("shared")) as scene:
        yield scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A scene for one test."""
    with set_up(tmp_path) as made:
        yield made
