"""An example that `flash deploy` has deployed answers the commands of its README as one that `flash run` serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.testing import isolated_engine
from tests.examples.conftest import EXAMPLES
from tests.examples.readme import Readme, differs

FLASH = Path(sys.executable).with_name("flash")
DEPLOYED = (
    "01_getting_started/02_cpu_worker",  # the smallest
    "01_getting_started/03_mixed_workers",  # routes of main.py, and a file that it reads
    "03_advanced_workers/01_class_based_worker",
    "03_advanced_workers/04_retries",  # a volume
    "06_real_world/01_webhooks",  # a secret from the environment
    "06_real_world/03_document_search",  # queues, a load balancer and a volume
)


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[None]:
    with isolated_engine(WEBHOOK_SECRET="for-this-example"):
        yield


@pytest.mark.parametrize("name", DEPLOYED)
@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_deployed_example_answers_the_commands_of_its_readme(tmp_path: Path, name: str) -> None:
    deployed = json.loads(flash(name, "deploy", "--yes", "--json"))
    url = next(one["url"] for one in deployed["endpoints"] if one["name"].endswith("-mothership"))
    readme = Readme(EXAMPLES[name] / "README.md")
    environ = {"PATH": os.pathsep.join([str(FLASH.parent), os.environ["PATH"]])}

    token = flash(name, "engine", "token").strip()
    printed = readme.run(url, environ, tmp_path, header=f"Authorization: Bearer {token}")

    for command, output in zip(readme.commands, printed, strict=True):
        if command.answer is not None:
            assert differs(command.answer, json.loads(output)) == "", command.text


def flash(name: str, *words: str) -> str:
    ended = subprocess.run([FLASH, *words], cwd=EXAMPLES[name], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
