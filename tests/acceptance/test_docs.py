"""What README.md and the documentation show runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import cloudpickle
import pytest

from runpod_flash.host.machine import measure
from runpod_flash.testing import IsolatedEngine

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")))]
PRELUDE = "import asyncio\nfrom runpod_flash import CpuLiveServerless, JobHandle, remote\n"


def blocks(page: str) -> list[str]:
    """The python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(folder: Path, program: str) -> str:
    """What a program prints; it must end well."""
    file = folder / "shown.py"
    file.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_block_of_the_readme_counts(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    assert "{'words': 5} by worker w" in run(tmp_path, blocks("README.md")[0])


def test_the_verbs_of_the_readme_work(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    first, verbs = blocks("README.md")[:2]
    function = first.partition("async def main")[0]
    body = textwrap.indent(verbs, "    ")
    printed = run(tmp_path, f"{PRELUDE}{function}async def main():\n{body}\nasyncio.run(main())\n")
    assert printed.count("{'words': 2}\n") == 2


def test_the_call_of_the_journey_makes_it(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    (call,) = blocks("docs/journey.md")
    assert run(tmp_path, f"import asyncio\n{call}\nasyncio.run(main())\n") == "5\n"


@pytest.mark.parametrize(
    "page",
    ["docs/reference/scope.md", "docs/reference/streams.md", "docs/reference/classes.md", "docs/reference/nested.md"],
)
def test_a_page_shows_what_its_programs_print(flash_engine: IsolatedEngine, tmp_path: Path, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    pairs = re.findall(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(pairs) == len(blocks(page))
    for program, printed in pairs:
        assert run(tmp_path, program).replace(f"{tmp_path}/", "") == printed


def test_the_page_on_volumes_mounts_one(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    if "no_mounts" in measure().facts:
        pytest.skip("processes cannot have a view of the files of their own here")
    mounted, weights = blocks("docs/reference/volumes.md")
    weights = weights.replace("def weights", "@remote(CpuLiveServerless('w', networkVolumeId=volume.id))\ndef weights")
    called = "train.sync().unwrap()\nprint(weights.sync().unwrap())\n"
    assert run(tmp_path, mounted + weights + called) == "/models/weights\n"


def test_the_page_on_limits_gives_a_port(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    declared, port = blocks("docs/reference/limits.md")
    called = "print(0 < int(where.sync().unwrap()) < 65536)\n"
    assert run(tmp_path, f"from runpod_flash import remote\n{declared}{port}{called}") == "True\n"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    named = re.findall(r"`((?:[a-z]+/)+[a-z_]+\.(?:py|md))`", text)
    places = [(ROOT / page).parent / target for target in targets]
    missing = [place for place in places if not place.exists()]
    templates = ROOT / "src/runpod_flash/apps/templates/directory"  # what `flash init` makes
    named = [name for name in named if not (templates / f"{name}.in").exists()]
    bases = (ROOT, ROOT / "src/runpod_flash", Path(cloudpickle.__file__).parents[1])
    assert not missing + [name for name in named if not any((base / name).exists() for base in bases)]
