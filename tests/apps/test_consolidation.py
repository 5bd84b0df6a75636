"""The dependencies of all examples become those of the gallery, or it is said which of them cannot be had together."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from runpod_flash.apps.consolidation import conflicts, run
from runpod_flash.apps.consolidation.declared import find_root, read_project
from runpod_flash.cli.verbs import flash
from runpod_flash.errors import ConfigError, DependencyError, UsageError
from tests.apps.conftest import Gallery, Index


def pinned(gallery: Gallery, name: str) -> list[str]:
    return [line.split()[0] for line in gallery.text("requirements.txt").splitlines() if line.startswith(f"{name}==")]


def test_what_examples_need_is_put_together_resolved_and_written(index: Index, gallery: Gallery) -> None:
    index.add("alpha", "1.0", "1.5", "2.0", requires="beta>=3")
    index.add("beta", "3.0", "4.0")
    index.add("pydantic", "2.0")
    gallery.example("01_first/01_one", "alpha>=1", "pydantic[email]")
    gallery.example("01_first/02_two", "Alpha>=1.2,<2", "beta; python_version < '3.14'")

    done = run.consolidate(gallery.root)

    assert done.dependencies == ("alpha>=1.2,<2", 'beta; python_version < "3.14"', "pydantic[email]")
    assert set(done.written) == {"pyproject.toml", "requirements.txt", "uv.lock"}
    assert read_project(gallery.root / "pyproject.toml")["project"]["dependencies"] == list(done.dependencies)
    assert pinned(gallery, "alpha") == ["alpha==1.5"]
    assert pinned(gallery, "beta") == ["beta==4.0"]
    assert pinned(gallery, "fastapi"), "what Flash itself needs is part of the environment"
    assert 'name = "beta"' in gallery.text("uv.lock")


def test_the_versions_name_no_place_that_they_came_from(index: Index, gallery: Gallery) -> None:
    index.add("alpha", "1.0")
    gallery.example("01_first/one", "alpha")
    run.consolidate(gallery.root)
    text = gallery.text("requirements.txt")
    assert str(index.folder) not in text
    assert "://" not in text
    assert "--index" not in text


def test_a_second_run_changes_nothing_and_newer_versions_are_only_taken_when_asked(
    index: Index, gallery: Gallery
) -> None:
    index.add("alpha", "1.0")
    gallery.example("01_first/one", "alpha")
    run.consolidate(gallery.root)
    index.add("alpha", "1.1")
    assert run.consolidate(gallery.root).written == ()
    assert pinned(gallery, "alpha") == ["alpha==1.0"]
    assert "requirements.txt" in run.consolidate(gallery.root, upgrade=True).written
    assert pinned(gallery, "alpha") == ["alpha==1.1"]


def test_comments_of_the_gallery_stay_where_they_belong(index: Index, gallery: Gallery) -> None:
    for name in ("alpha", "beta", "gamma"):
        index.add(name, "1.0")
    (gallery.root / "pyproject.toml").write_text(
        """\
# about the gallery
[project]
name = "mine"  # a name
version = "1"
requires-python = ">=3.10"
dependencies = [
    # gone with alpha
    "alpha",  # also gone
    # gamma draws
    "gamma>=0.5",  # and writes
    # the end
]

[tool.uv]
package = false

[tool.ruff]
line-length = 120  # wide
"""
    )
    gallery.example("01_first/one", "gamma", "beta")
    run.consolidate(gallery.root)
    assert gallery.text("pyproject.toml") == (
        """\
# about the gallery
[project]
name = "mine"  # a name
version = "1"
requires-python = ">=3.10"
dependencies = [
    "beta",
    # gamma draws
    "gamma",  # and writes
    # the end
]

[tool.uv]
package = false

[tool.ruff]
line-length = 120  # wide
"""
    )


@pytest.mark.parametrize("name", ["runpod-flash", "runpod_flash>=1", "tetra-rp", "flash-anywhere"])
def test_names_that_mean_us_are_never_asked_for(index: Index, gallery: Gallery, name: str) -> None:
    for foreign in ("runpod-flash", "tetra-rp"):
        index.add(foreign, "9.0")
    gallery.example("01_first/one", name, "fastapi")
    done = run.consolidate(gallery.root)
    assert done.dependencies == ("fastapi",)
    for file in ("pyproject.toml", "requirements.txt", "uv.lock"):
        assert "runpod-flash" not in gallery.text(file)
        assert "tetra-rp" not in gallery.text(file)


def test_examples_that_cannot_be_had_together_are_named_and_nothing_is_changed(index: Index, gallery: Gallery) -> None:
    index.add("alpha", "1.0", "2.0")
    index.add("beta", "1.0", requires="alpha<2")
    for number in range(5):
        gallery.example(f"01_first/{number}", "alpha")
    gallery.example("02_second/needs_old", "click", "beta")
    gallery.example("03_third/needs_new", "alpha>=2", "rich")

    with pytest.raises(DependencyError) as caught:
        run.consolidate(gallery.root)

    told = str(caught.value)
    assert "02_second/needs_old and 03_third/needs_new cannot be had together" in told
    assert "02_second/needs_old  beta\n" in told
    assert "03_third/needs_new   alpha>=2\n" in told
    assert "01_first" not in told
    assert [one.name for one in gallery.root.iterdir() if one.is_file()] == []


def test_an_example_at_odds_with_flash_itself_is_told_so(index: Index, gallery: Gallery) -> None:
    index.add("click", "1.0")
    gallery.example("01_first/old", "click<2")
    gallery.example("01_first/other", "rich")
    with pytest.raises(DependencyError, match="01_first/old and Flash itself cannot be had together"):
        run.consolidate(gallery.root)


def test_an_example_that_asks_for_what_there_is_not_is_named(index: Index, gallery: Gallery) -> None:
    gallery.example("01_first/fine", "rich")
    gallery.example("01_first/typo", "richh")
    with pytest.raises(DependencyError, match=r"what 01_first/typo needs cannot be had(.|\n)*richh"):
        run.consolidate(gallery.root)


def test_what_is_no_requirement_is_shown_with_its_line(gallery: Gallery) -> None:
    file = gallery.example("01_first/one", "fine", "not a requirement")
    with pytest.raises(ConfigError, match="'not a requirement' is no requirement") as caught:
        run.consolidate(gallery.root)
    assert f"{file}:4" in str(caught.value)


def test_a_file_that_is_no_toml_is_shown_with_its_line(gallery: Gallery) -> None:
    file = gallery.example("01_first/one")
    file.write_text("[project]\nname = one\n")
    with pytest.raises(ConfigError, match="is no TOML") as caught:
        run.check(gallery.root)
    assert f"{file}:2" in str(caught.value)


def test_check_says_what_is_stale_and_why_without_asking_anybody(
    index: Index, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("alpha", "1.0")
    gallery.example("01_first/one", "alpha")
    assert "there is no pyproject.toml" in run.check(gallery.root).stale
    run.consolidate(gallery.root)
    monkeypatch.setenv("UV_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("PATH", "")
    assert run.check(gallery.root).stale == ()

    gallery.example("01_first/one", "alpha>=0.5", "beta")
    stale = run.check(gallery.root).stale
    assert "pyproject.toml lacks beta (01_first/one)" in stale
    assert "pyproject.toml has alpha, which no example asks for like this" in stale
    assert "requirements.txt was made from other dependencies" in stale
    assert "uv.lock was made from other dependencies" in stale


def test_pins_that_this_flash_cannot_use_are_stale(index: Index, gallery: Gallery) -> None:
    gallery.example("01_first/one", "rich")
    run.consolidate(gallery.root)
    pins = gallery.root / "requirements.txt"
    pins.write_text(pins.read_text().replace("fastapi==0.115", "fastapi==0.1"))
    assert run.check(gallery.root).stale == (
        "requirements.txt has no version of fastapi that Flash can use (fastapi>=0.115)",
    )


def test_a_clone_without_the_lock_of_uv_is_not_stale(index: Index, gallery: Gallery) -> None:
    gallery.example("01_first/one", "rich")
    run.consolidate(gallery.root)
    (gallery.root / "uv.lock").unlink()
    assert run.check(gallery.root).stale == ()


def test_a_lock_that_cannot_be_made_leaves_everything_as_it_was(index: Index, gallery: Gallery) -> None:
    gallery.example("01_first/one", "rich")
    text = (
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.10"\n[dependency-groups]\ndev = ["nowhere"]\n'
    )
    (gallery.root / "pyproject.toml").write_text(text)
    with pytest.raises(DependencyError, match="nowhere"):
        run.consolidate(gallery.root)
    assert gallery.text("pyproject.toml") == text
    assert not (gallery.root / "requirements.txt").exists()


def test_the_command_works_from_within_an_example_and_prints_facts(
    index: Index, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("alpha", "1.0")
    file = gallery.example("01_first/one", "alpha")
    monkeypatch.chdir(file.parent)

    stale = CliRunner().invoke(flash, ["deps", "consolidate", "--check"])
    assert stale.exit_code == 1
    assert "pyproject.toml lacks alpha (01_first/one)\n" in stale.stdout
    assert "flash deps consolidate" in stale.stderr

    written = CliRunner().invoke(flash, ["deps", "consolidate"])
    assert (written.exit_code, written.stdout) == (0, "+ alpha\n")

    facts = json.loads(CliRunner().invoke(flash, ["deps", "consolidate", "--check", "--json"]).stdout)
    assert facts == {
        "root": str(gallery.root.resolve()),
        "examples": 1,
        "dependencies": ["alpha"],
        "added": [],
        "removed": [],
        "written": [],
        "stale": [],
    }
    schema = Path(__file__).parents[2] / "docs" / "reference" / "schemas" / "deps-consolidate.json"
    jsonschema.validate(facts, json.loads(schema.read_text(encoding="utf-8")))


def test_where_there_is_no_gallery_the_command_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no gallery"):
        find_root(tmp_path)
    ended = CliRunner().invoke(flash, ["deps", "consolidate", str(tmp_path)])
    assert ended.exit_code == 2


@pytest.mark.parametrize("guilty", [{3}, {0, 7}, {1, 2, 6}, set(range(8))])
def test_the_smallest_group_that_fails_is_found(guilty: set[int]) -> None:
    assert set(conflicts.smallest(lambda some: guilty <= set(some), range(8))) == guilty
