"""Pages that lead a reader through the code name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/runpod_flash"
PAGES = [*ROOT.glob("*.md"), ROOT / "docs/journey.md", ROOT / "docs/glossary.md", *(ROOT / "docs/design").glob("*.md")]
ELSEWHERE = {"cloudpickle/cloudpickle.py"}  # in the packages of others

NAMED = re.compile(r"`([a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py)`")
LINKED = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [name for name in NAMED.findall(text) if name not in ELSEWHERE]
    missing = [name for name in named if not any((where / name).exists() for where in (PACKAGE, ROOT))]
    missing += [link for link in LINKED.findall(text) if not (page.parent / link).exists()]
    assert not missing
