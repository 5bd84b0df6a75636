"""The tests that examples bring along pass where a user runs them: in the example's folder, by themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.examples.conftest import EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_tests_of_an_example_pass(name: str) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("FLASH_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=EXAMPLES[name], env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
