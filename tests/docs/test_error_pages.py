"""Each kind of error has a page, and what the page shows is what happens."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runpod_flash import errors
from runpod_flash.client import background
from runpod_flash.engine.state import MAX_WAITING_BYTES
from runpod_flash.testing import IsolatedEngine, isolated_engine
from runpod_flash.wire.messages import Error
from tests.engine.scene import Scene

FOLDER = Path(__file__).parents[2] / "docs/errors"
TREE: dict[str, type[errors.FlashError]] = {
    kind.code: kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, errors.FlashError)
}
ALONE = {"engine_unavailable", "store_unavailable"}
"""Their examples spoil the engine, or where it lives."""
ELSEWHERE = {"queue_full"}


class Page:
    """A page: the program it shows, and what that ends with."""

    def __init__(self, code: str) -> None:
        self.text = (FOLDER / f"{code}.md").read_text(encoding="utf-8")
        (self.program,) = re.findall(r"^```python\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)
        (self.printed,) = re.findall(r"^```text\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)


def told(error: BaseException | str, folder: Path) -> str:
    """A message without what is another one every time."""
    text = str(error).replace(f"{folder}{os.sep}", "").rstrip()
    for pattern, instead in (
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<job>"),
        (r"\bw[0-9a-f]{10}\b", "<worker>"),
        (r"/tmp/run-\w+", "/tmp/<run>"),
        (r"/tmp/flash-test-\w+", "/tmp/<test>"),
        (r"flash-\d+\b", "flash-<user>"),
        (r"[^\s(]*/\.env", ".env"),
        (r"0x[0-9a-f]+", "0x…"),
        (r"^ *[~^]+\n", ""),  # where in the line it was: Python 3.10 does not know
    ):
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


def run(program: str, folder: Path) -> ModuleType:
    """The program as a module of the user's, in a project of its own."""
    file = folder / "app.py"
    file.write_text(program, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("app", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["app"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    """One for all pages that leave it as it was."""
    with isolated_engine() as started:
        yield started


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where the program lies and runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR", ""))  # a page sets another
    yield folder
    sys.modules.pop("app", None)


def check(code: str, folder: Path) -> None:
    page = Page(code)
    with pytest.raises(TREE[code]) as caught:
        run(page.program, folder)
    assert told(caught.value, folder) == told(page.printed, folder)


@pytest.mark.parametrize("code", sorted(TREE.keys() - ALONE - ELSEWHERE))
def test_the_example_of_a_page_ends_as_it_says(code: str, engine: IsolatedEngine, project: Path) -> None:
    check(code, project)


@pytest.mark.parametrize("code", sorted(ALONE))
def test_an_example_that_spoils_its_engine_ends_as_it_says(code: str, project: Path) -> None:
    with isolated_engine():
        check(code, project)
        background.stop()


def test_a_full_queue_says_what_its_page_says(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    try:
        client = scene.client()
        fn = client.declare(endpoint="train")
        client.submit(fn, b"x" * 1024)
        (pool,) = scene.engine.state.pools.values()
        pool.endpoint.args_bytes = MAX_WAITING_BYTES  # as if there were a million times as many
        client.submit(fn)
        (refused,) = client.wire.all(Error)
    finally:
        scene.close()
    error = errors.error_from_code(refused.code, refused.what, why=refused.why, fix=refused.fix)
    assert type(error) is errors.QueueFull
    assert str(error) == Page("queue_full").printed.rstrip()


# ── the index ─────────────────────────────────────────────────────────────────────────────────────


def test_every_kind_of_error_has_a_page_and_every_page_a_kind() -> None:
    assert {file.stem for file in FOLDER.glob("*.md")} - {"README"} == set(TREE)
    for code, kind in TREE.items():
        text = Page(code).text
        assert text.startswith(f"# {kind.__name__}\n\n`{code}` · ")
        assert [line for line in text.splitlines() if line.startswith("## ")] == [
            "## As it is printed",
            "## Why it happens",
            "## What to do",
        ]


def test_the_index_shows_the_tree() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^( *)- \[(\w+)\]\((\w+)\.md\)", text, re.MULTILINE)
    parents: list[str] = []
    for indent, name, code in rows:
        depth = len(indent) // 2
        assert TREE[code].__name__ == name
        assert TREE[code].__mro__[1].__name__ == (parents[depth - 1] if depth else "Exception")
        parents[depth:] = [name]
    assert {code for _, _, code in rows} == set(TREE)
