"""The table of what the reference says: each row names tests, and each of these is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/specification.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| the reference "))
]


def functions_of(file: Path) -> set[str]:
    """The names of its functions, tests among them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_every_sentence_is_shown_by_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3
    named = re.findall(r"`(\S+?\.py)::(\w+)`", row[2])
    assert named
    missing = [f"{file}::{name}" for file, name in named if name not in functions_of(TESTS / file)]
    assert missing == []


def test_the_table_is_a_table() -> None:
    assert len(ROWS) > 50
