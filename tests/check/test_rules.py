"""Every rule finds what its page shows, at the place that it marks, and lets pass what the page writes instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runpod_flash.check.finding import RULES
from tests.check.conftest import PRELUDE, Check, codes

PAGE = (Path(__file__).parents[2] / "docs/reference/check.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (FL\d{3}) [a-z-]+\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE))
WITHOUT_TEXT = {"FL002", "FL104"}


def blocks(section: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_page_has_a_section_on_every_rule_and_says_how_severe_it_is() -> None:
    titles = re.findall(r"^### (FL\d{3}) ([a-z-]+)\n\n(Error|Warning|Note)\.", PAGE, re.MULTILINE)
    assert titles == [(rule.code, rule.name, rule.severity.capitalize()) for rule in RULES.values()]


def test_the_page_shows_what_its_examples_begin_with() -> None:
    assert blocks(PAGE)[0] == PRELUDE


@pytest.mark.parametrize("code", sorted(set(RULES) - WITHOUT_TEXT))
def test_a_rule_finds_what_the_page_marks(check: Check, code: str) -> None:
    wrong = blocks(SECTIONS[code])[0]
    (marked,) = [number for number, line in enumerate((PRELUDE + wrong).splitlines(), 1) if "# ❌" in line]
    assert [one.line for one in check(wrong) if one.rule.code == code] == [marked]


@pytest.mark.parametrize("code", sorted(set(RULES) - WITHOUT_TEXT))
def test_what_the_page_writes_instead_breaks_no_rule(check: Check, code: str) -> None:
    right = blocks(SECTIONS[code])[1]
    # Examples are short: how a file logs or asks for the time is not what they are about.
    beside = {"FL108", "FL110", "FL204", "FL503", "FL501"} - {code}
    assert [one for one in check(right) if one.rule.code not in beside] == []


@pytest.mark.parametrize("code", sorted(set(RULES) - WITHOUT_TEXT - {"FL001"}))
def test_a_comment_lets_a_finding_pass(check: Check, code: str) -> None:
    wrong = blocks(SECTIONS[code])[0]
    assert code not in codes(check(wrong.replace("# ❌", f"# flash: ignore[{code}]")))
    assert code not in codes(check(wrong.replace("# ❌", "# flash: ignore")))
    assert code in codes(check(wrong.replace("# ❌", "# flash: ignore[FL999]")))
