"""The page about the blocks of the specification says what the tests do with each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.acceptance import standins
from tests.acceptance.blocks import BLOCKS
from tests.acceptance.cases import CASES
from tests.check.verdicts import VERDICTS
from tests.docs.test_specification import functions_of

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = TESTS.parent / "docs/acceptance.md"
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| in a block |", "| section |"))
]
FOUND: Final = {one.block: one.found for one in VERDICTS}


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_what_stands_in_for_something_is_told() -> None:
    told = [name for row in ROWS if len(row) == 2 for name in quoted(row[0])]
    packages = dict.fromkeys(name for name, *_ in standins.WHEELS)
    assert told == [*packages, *standins.ADDRESSES, *standins.CHECKPOINTS, standins.EXPENSIVE[0], standins.VOLUME[0]]


def test_every_block_is_in_the_table_with_its_cases_and_findings() -> None:
    told = [(row[1].strip("`"), quoted(row[2]), row[3]) for row in ROWS if len(row) == 5]
    assert told == [(name, [case.name for case in CASES if case.block == name], findings(name)) for name in BLOCKS]


def findings(block: str) -> str:
    if block not in FOUND:
        return "–"
    return ", ".join(f"{line}: {rule}" for line, rule in FOUND[block].items()) or "nothing"


def test_no_block_is_without_a_test_and_every_test_that_is_named_is_there() -> None:
    for row in (row for row in ROWS if len(row) == 5):
        assert [cell for cell in row[2:] if cell != "–"], row[1]
        for file, _, name in (test.partition("::") for test in quoted(row[4]) if "::" in test):
            assert name in functions_of(TESTS / file)
