"""Tests of a user's own that make calls: run by pytest, alone and spread over processes."""

from __future__ import annotations

import sys
from typing import Final

import pytest

from tests.acceptance.launching.programs import DECLARED, Programs

TESTS: Final = """
import asyncio

import pytest


def test_calls_are_awaited_and_blocking():
    async def main():
        return await answer(Weight(21))

    assert asyncio.run(main()).unwrap().value == answer.sync(Weight(21)).unwrap().value == 42


@pytest.mark.anyio
async def test_tests_may_be_coroutines():
    assert (await answer(Weight(2))).unwrap().value == 4


@pytest.fixture
def weight():
    return Weight(4)


def test_fixtures_and_what_a_test_replaces_travel(weight, monkeypatch):
    monkeypatch.setitem(globals(), "FACTOR", 10)
    assert answer.sync(weight).unwrap().value == 40


class Scales:
    def weigh(self, weight):
        assert weight.value > 0, "it weighs nothing"
        return weight.value


@pytest.mark.parametrize("value", [2, 0])
def test_asserts_fail_in_a_worker_as_they_were_written(value):
    @remote(CpuLiveServerless("launching", workersMax=2), max_retries=0)
    def checked(weight: "Weight", *, at_least=1):
        assert weight.value >= at_least, f"{weight.value} is too little"
        return Scales().weigh(weight)

    job = checked.sync(Weight(value))
    assert job == 2 if value else job.error == "AssertionError: 0 is too little"
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["in one process", "in several"])
def test_a_users_own_tests_pass(options: list[str], programs: Programs) -> None:
    programs.write(
        {
            "test_calls.py": DECLARED + TESTS,
            "conftest.py": "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n",
            "pytest.ini": "[pytest]\nfilterwarnings = error\n",
        }
    )
    assert "5 passed" in programs.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *options]
    )
