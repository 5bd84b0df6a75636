from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.engines import Machine


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A private folder whose path leaves room for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="fd", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def machine(short_path: Path) -> Iterator[Machine]:
    """A place for engines; whatever a test leaves there is ended."""
    machine = Machine(short_path)
    yield machine
    machine.end()
