from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A private folder whose path leaves room for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="fd", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)
