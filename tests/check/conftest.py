"""The checker at work on text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runpod_flash.check import run
from runpod_flash.check.finding import Finding

PRELUDE = """\
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, LiveServerless, remote

config = CpuLiveServerless(name="demo")
api = CpuLiveLoadBalancer(name="demo_api")
"""

Check = Callable[..., list[Finding]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Findings in a text that comes after the prelude, in the strict view unless told otherwise."""

    def checked(text: str, *, strict: bool = True, prelude: str = PRELUDE, name: str = "app.py") -> list[Finding]:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(prelude + text, encoding="utf-8")
        report = run.check([str(file)], run.View(strict=strict))
        assert report.files == 1
        return report.findings

    return checked


def codes(findings: list[Finding]) -> list[str]:
    """Which rules were broken, in order."""
    return [finding.rule.code for finding in findings]
