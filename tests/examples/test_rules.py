"""The files of the gallery are as the guidelines want them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runpod_flash.apps.consolidation.run import check
from tests.examples.conftest import EXAMPLES, GALLERY
from tests.examples.readme import SECTIONS, Readme, differs, differs_as_text

SIZE_BYTES = 3_000_000
FILES = {
    ".env.example", ".flashignore", ".gitignore", ".python-version", ".vscode/launch.json", "AGENTS.md", "README.md",
    "main.py", "mothership.py", "pyproject.toml", "requirements.txt", "tests/conftest.py", "tests/test_routes.py",
}  # fmt: skip


def test_the_dependencies_of_the_gallery_are_those_of_its_examples() -> None:
    done = check(GALLERY)
    assert done.stale == (), "run make consolidate-deps in examples/"
    assert done.examples == len(EXAMPLES)


def test_the_gallery_is_small() -> None:
    made = {".mypy_cache", ".ruff_cache", ".venv", "__pycache__"}
    files = [file for file in GALLERY.rglob("*") if file.is_file() and not made & set(file.parts)]
    assert sum(file.stat().st_size for file in files if file.name != "uv.lock") < SIZE_BYTES


def test_the_index_of_the_gallery_has_a_line_for_each_example() -> None:
    listed = re.findall(r"\]\((\d\d_\w+/\d\d_\w+)/\)", (GALLERY / "README.md").read_text(encoding="utf-8"))
    assert listed == list(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_made_as_the_guidelines_say(name: str) -> None:
    folder = EXAMPLES[name]
    missing = {file for file in FILES if not (folder / file).is_file()}
    assert missing == set()
    ignored = (folder / ".gitignore").read_text().splitlines()
    assert {"flash_manifest.json", "uv.lock"} <= set(ignored)
    configuration = json.loads((folder / ".vscode/launch.json").read_text())
    modules = [one["module"] for one in configuration["configurations"] if one.get("module", "pytest") != "pytest"]
    assert all((folder / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    prefix = f"{name[:2]}_{folder.name}"
    declared = re.compile(r'name="(\w[\w-]*)",\n    (?:gpus|cpuCount|workersMin)')
    names = [one for file in sources(folder) for one in declared.findall(file.read_text(encoding="utf-8"))]
    assert names
    assert all(one.startswith(prefix) for one in names), names


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_code_of_an_example_keeps_the_rules_of_the_guidelines(name: str) -> None:
    for file in sources(EXAMPLES[name]):
        text = file.read_text(encoding="utf-8")
        app = text.partition('if __name__ == "__main__":')[0]
        if file.name not in ("load_test.py", "compare.py"):  # programs of their own, which print
            assert not re.search(r"^\s*print\(", app, re.MULTILINE), f"{file} prints"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{file}:{node.lineno}"
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.returns is not None, f"{file}:{node.lineno} {node.name} has no return type"
                arguments = [*node.args.args, *node.args.kwonlyargs]
                untyped = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
                assert untyped == [], f"{file}:{node.lineno}"


def test_functions_use_only_what_is_local_to_them() -> None:
    """The letter of the guidelines: nothing from outside of a remote function, no undeclared package."""
    # FL204: that arguments of some size are sent whole is what examples with uploads are about.
    words = ["check", "--strict", "--ignore", "FL204", *(str(folder) for folder in EXAMPLES.values())]
    program = [sys.executable, "-c", "from runpod_flash.cli.main import main; main()"]
    found = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_readme_has_the_sections_of_the_guidelines(name: str) -> None:
    readme = Readme(EXAMPLES[name] / "README.md")
    assert tuple(readme.sections) == SECTIONS
    assert readme.commands
    for endpoint in readme.endpoints:
        assert any(endpoint.is_asked_by(command.text) for command in readme.commands), f"nothing asks {endpoint.path}"


@pytest.mark.parametrize("name", ["", *EXAMPLES])
def test_what_a_readme_links_to_is_there(name: str) -> None:
    folder = GALLERY / name
    links = re.findall(r"\]\(([^)\s]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    inside = [link.partition("#")[0] for link in links if "://" not in link]
    assert inside
    assert [link for link in inside if not (folder / link).exists()] == []


def test_the_comparison_sees_what_differs() -> None:
    told = {"text": "a", "job_id": "1", "list": [{"score": 0.5}]}
    assert differs(told, {"text": "a", "job_id": "2", "list": [{"score": 0.51}]}) == ""
    assert differs(told, {**told, "text": "b"}) == "$.text is 'b', not 'a'"
    assert differs(told, {**told, "job_id": 3}) == "$.job_id is 3, and not like '1'"
    assert differs(told, {**told, "list": [{"score": 0.6}]}) == "$.list[0].score is 0.6, not 0.5"
    assert differs(told, {**told, "more": 1})
    assert differs_as_text("8 jobs, 0.05 s", "8 jobs, 0.11 s") == ""
    assert differs_as_text('data: {"n": 1}', 'data: {"n": 2}')


def sources(folder: Path) -> list[Path]:
    """The Python files of an example, without its tests."""
    return [file for file in sorted(folder.rglob("*.py")) if "tests" not in file.relative_to(folder).parts]
