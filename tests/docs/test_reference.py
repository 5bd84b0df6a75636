"""The tables of the reference are those that the code makes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs/reference"


@pytest.mark.parametrize("page", ["resources.md", "settings.md"])
def test_the_tables_are_what_the_code_says(page: str) -> None:
    made: dict[Path, Any] = runpy.run_path(str(FOLDER / "make_tables.py"))["pages"]()
    written = (FOLDER / page).read_text(encoding="utf-8")
    assert written == made[FOLDER / page], "run: .venv/bin/python docs/reference/make_tables.py"
    assert "<!-- table: " in written


def test_every_field_of_the_reference_is_a_field() -> None:
    tables = runpy.run_path(str(FOLDER / "make_tables.py"))
    from runpod_flash.model import resources, volumes

    for name, words in tables["EFFECTS"].items():
        kind = getattr(resources, name, None) or getattr(volumes, name)
        assert set(words) <= set(kind.__dataclass_fields__)
