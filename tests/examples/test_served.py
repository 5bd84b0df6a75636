"""The gallery, served: every example does what its README says, and every route is there.

Commands of READMEs are run, and what they answer is compared.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.examples.conftest import EXAMPLES, HEAVY, Served
from tests.examples.readme import Readme, differs, differs_as_text


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in HEAVY])
def test_the_commands_of_a_readme_answer_what_it_says(gallery: Served, tmp_path: Path, name: str) -> None:
    follow(gallery, tmp_path, name)


@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_the_commands_of_a_readme_with_large_packages_answer_what_it_says(
    gallery: Served, tmp_path: Path, name: str
) -> None:
    follow(gallery, tmp_path, name)


def follow(gallery: Served, scratch: Path, name: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the commands of READMEs need curl")
    readme = Readme(EXAMPLES[name] / "README.md")
    printed = readme.run(f"{gallery.url}/{EXAMPLES[name].name}", gallery.environ, scratch)
    for command, output in zip(readme.commands, printed, strict=True):
        if command.answer is not None:
            assert differs(command.answer, json.loads(output)) == "", command.text
        if command.output:
            assert differs_as_text(command.output, output) == "", command.text


def test_every_route_of_every_readme_is_in_the_schema_of_the_gallery(gallery: Served) -> None:
    schema = gallery.json("/openapi.json")
    for name, folder in EXAMPLES.items():
        for endpoint in Readme(folder / "README.md").endpoints:
            path = f"/{folder.name}{endpoint.path}"
            operation = schema["paths"].get(path, {}).get(endpoint.method.lower())
            assert operation is not None, f"{name}: {endpoint.method} {path} is not served"
            assert operation["description"] or operation["summary"], path


def test_every_route_that_is_served_stands_in_a_readme(gallery: Served) -> None:
    told = {
        (f"/{folder.name}{endpoint.path}", endpoint.method.lower())
        for folder in EXAMPLES.values()
        for endpoint in Readme(folder / "README.md").endpoints
    }
    served = {
        (path, method)
        for path, methods in gallery.json("/openapi.json")["paths"].items()
        for method in methods
        if not re.fullmatch(r"/\w+/(ping)?", path)
    }
    assert served == told


def test_every_example_is_loaded_and_on_the_index(gallery: Served) -> None:
    gallery.json("/openapi.json")  # has all of them loaded
    assert gallery.json("/health") == {
        "status": "ok",
        "examples_loaded": len(EXAMPLES),
        "total_examples": len(EXAMPLES),
    }
    page = gallery.get("/").text
    for folder in EXAMPLES.values():
        assert folder.name in page
        assert gallery.json(f"/{folder.name}/ping") == {"status": "healthy"}
