from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.apps import scaffold
from runpod_flash.apps.naming import names_of
from runpod_flash.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATTERNS = {
    scaffold.DIRECTORY: {
        "workers/__init__.py",
        "workers/gpu/__init__.py",
        "workers/gpu/endpoint.py",
        "workers/cpu/__init__.py",
        "workers/cpu/endpoint.py",
    },
    scaffold.SINGLE: {"gpu_worker.py", "cpu_worker.py"},
}
ALWAYS = {
    "README.md",
    "main.py",
    "mothership.py",
    "pyproject.toml",
    "requirements.txt",
    ".env.example",
    ".gitignore",
    ".flashignore",
    ".python-version",
    ".vscode/launch.json",
    "AGENTS.md",
    "tests/test_routes.py",
    "tests/test_workers.py",
}
SECTIONS = [
    "Overview", "What You'll Learn", "Architecture", "Quick Start", "Prerequisites", "Installation",
    "Test the Endpoint", "API Endpoints", "Deployment", "Cost Estimates", "Common Issues", "References",
]  # fmt: skip


def texts(folder: Path, pattern: str = scaffold.DIRECTORY) -> dict[str, str]:
    return {str(file.path.relative_to(folder)): file.text for file in scaffold.files_of(folder, pattern)}


@pytest.mark.parametrize(
    ("folder", "prefix", "mothership", "title"),
    [
        ("01_getting_started/01_hello_world", "01_01_hello_world", "01_01_hello_world-mothership", "01 Hello World"),
        ("03_advanced_workers/my_new_example", "03_my_new_example", "03_my_new_example-mothership", "My New Example"),
        ("somewhere/my_app", "my_app", "my_app-mothership", "My App"),
        ("somewhere/my app", "my_app", "my_app-mothership", "My App"),
        ("somewhere/2024", "2024", "2024-mothership", "2024"),
    ],
)
def test_names_come_from_the_folder_and_its_category(folder: str, prefix: str, mothership: str, title: str) -> None:
    names = names_of(Path("/x") / folder)
    assert (names.prefix, names.mothership, names.title) == (prefix, mothership, title)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_file_of_the_layout_is_made_with_nothing_left_to_fill_in(tmp_path: Path, pattern: str) -> None:
    found = texts(tmp_path / "01_a" / "02_b c", pattern)
    assert set(found) == ALWAYS | PATTERNS[pattern]
    for name, text in found.items():
        assert "{{" not in text, name
        assert text.endswith("\n"), name
        if name.endswith(".py"):
            ast.parse(text)
    assert 'name="01_02_b_c_gpu"' in "".join(found.values())


def test_the_readme_has_the_sections_of_the_guidelines_in_their_order(tmp_path: Path) -> None:
    headings = re.findall(r"^#{2,3} (.*)$", texts(tmp_path / "x")["README.md"], re.MULTILINE)
    assert [one for one in headings if one in SECTIONS] == SECTIONS


def test_what_flash_makes_is_ignored_by_git_and_what_tests_need_by_a_build(tmp_path: Path) -> None:
    found = texts(tmp_path / "x")
    assert {"flash_manifest.json", "uv.lock", ".env", ".flash/"} <= set(found[".gitignore"].split())
    assert {"tests/", ".env*"} <= set(found[".flashignore"].split())


def test_a_title_with_quotes_breaks_no_file(tmp_path: Path) -> None:
    found = texts(tmp_path / """it's "new" {x} \\n""")
    for name, text in found.items():
        if name.endswith(".py"):
            ast.parse(text)
    project: dict[str, Any] = tomllib.loads(found["pyproject.toml"])
    assert project["project"]["name"] == "it-s-new-x-n"
    json.loads(found[".vscode/launch.json"])


def test_the_project_names_what_the_guidelines_use(tmp_path: Path) -> None:
    project: dict[str, Any] = tomllib.loads(texts(tmp_path / "x")["pyproject.toml"])
    names = {re.split(r"[>=<]", one)[0] for one in project["project"]["dependencies"]}
    assert names == {"flash-anywhere", "fastapi", "pydantic[email]", "structlog"}
    assert any(one.startswith("pytest-asyncio") for one in project["dependency-groups"]["dev"])


@pytest.mark.parametrize("name", ["", " ", "a\0b", "/", "a\tb"])
def test_a_name_that_can_be_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of an app"):
        scaffold.app_folder(name)


def test_an_app_inside_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        scaffold.app_folder(str(tmp_path / "notes" / "app"))
