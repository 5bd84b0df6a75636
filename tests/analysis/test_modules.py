"""Whose a module is, and which distribution brings it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest

from runpod_flash.analysis import distributions, modules
from runpod_flash.analysis.secrets import sounds_secret


@pytest.mark.parametrize(
    ("name", "owner"),
    [("json", "standard"), ("os.path", "standard"), ("runpod_flash.errors", "ours"), ("numpy.linalg", "installed")],
)
def test_every_module_has_an_owner(name: str, owner: str) -> None:
    found = modules.find(name)
    assert found is not None
    assert found.owner == owner


def test_own_packages_are_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "found_here" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "found_here" / "__init__.py").write_text("raise AssertionError('imported')")
    (inner / "leaf.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    leaf = modules.find("found_here.inner.leaf")
    assert leaf == modules.Found("found_here.inner.leaf", "own", str(inner / "leaf.py"))
    folder = modules.find("found_here.inner")
    assert folder is not None
    assert (folder.is_package, folder.file) == (True, "")
    assert modules.find("found_here.other") is None
    assert "found_here" not in sys.modules


def test_a_module_is_traced_to_what_was_installed_and_in_which_version() -> None:
    import numpy

    numbers = distributions.provider("numpy.linalg")
    assert numbers is not None
    assert numbers.requirement == f"numpy=={numpy.__version__}"
    dates = distributions.provider("dateutil.parser")
    assert dates is not None
    assert dates.name == "python-dateutil"
    one_file = distributions.provider("typing_extensions")
    assert one_file is not None
    assert one_file.requirement == f"typing_extensions=={metadata.version('typing_extensions')}"
    assert distributions.provider("json") is None
    assert distributions.provider("no_such_module") is None


def install(
    site: Path, name: str, version: str, files: dict[str, str], url: Mapping[str, object] | None = None
) -> None:
    """What an installer leaves behind."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    if url is not None:
        (info / "direct_url.json").write_text(json.dumps(url))
    for file, text in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lib" / "site-packages"
    install(folder, "cloud-core", "1.0", {"cloudy/core/__init__.py": ""})
    install(folder, "cloud-store", "2.0+cu118", {"cloudy/store/__init__.py": "", "cloudy/store/disk.py": ""})
    commit = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    install(folder, "From-Git", "3", {"from_git.py": ""}, commit)
    (tmp_path / "my project").mkdir()
    local = {"url": f"file://{tmp_path}/my%20project", "dir_info": {}}
    install(folder, "my-project", "0.1", {"my_project/__init__.py": ""}, local)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_parts_of_a_namespace_come_from_the_distribution_that_has_the_file(site: Path) -> None:
    disk = distributions.provider("cloudy.store.disk")
    core = distributions.provider("cloudy.core")
    assert disk is not None
    assert core is not None
    assert (disk.requirement, core.requirement) == ("cloud-store==2.0", "cloud-core==1.0")


def test_what_came_from_a_repository_is_asked_for_there_again(site: Path) -> None:
    found = distributions.provider("from_git")
    assert found is not None
    assert found.requirement == "From-Git @ git+https://example.org/x.git@abc"


def test_what_was_installed_from_a_folder_here_is_the_users_own(site: Path) -> None:
    found = modules.find("my_project")
    assert found is not None
    assert found.owner == "own"


def test_what_says_that_it_was_built_in_a_folder_of_another_machine_is_installed(site: Path) -> None:
    install(site, "built", "1.0", {"built.py": ""}, {"url": "file:///home/of/somebody/work", "dir_info": {}})
    found, known = modules.find("built"), distributions.provider("built")
    assert found is not None
    assert known is not None
    assert (found.owner, known.requirement) == ("installed", "built==1.0")


def test_what_was_installed_into_any_folder_is_not_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = tmp_path / "vendor"
    install(vendor, "brought", "2", {"brought/__init__.py": "", "brought/part.py": ""})
    (vendor / "mine.py").touch()
    monkeypatch.syspath_prepend(str(vendor))
    owners = {name: found.owner for name in ("brought.part", "mine") if (found := modules.find(name))}
    assert owners == {"brought.part": "installed", "mine": "own"}


@pytest.mark.parametrize(
    ("requirement", "module", "covered"),
    [
        ("numpy", "numpy.linalg", True),
        ("NumPy[extra]>=1,<3; python_version>'3'", "numpy", True),
        ("scikit_learn", "sklearn.svm", True),
        ("opencv-python-headless", "cv2", True),
        ("python-dateutil", "dateutil", True),
        ("git+https://example.org/wonder.git", "wonder", True),
        ("wonder @ https://example.org/x.whl", "wonder", True),
        ("google-cloud-storage==2", "google.cloud.storage", True),
        ("pandas", "numpy", False),
        ("numpy-financial", "numpy", False),
    ],
)
def test_a_requirement_covers_what_it_brings(requirement: str, module: str, covered: bool) -> None:
    assert distributions.covers([requirement], module) is covered


def test_a_requirement_that_nobody_knows_may_bring_anything() -> None:
    assert distributions.unaccounted(["numpy", "strange-thing>=1", "torch"], ["torch"]) == ("strange-thing>=1",)


@pytest.mark.parametrize(
    "name",
    ["API_KEY", "OPENAI_API_KEY", "openaiApiKey", "password", "DB_PASSWORD", "hf_token", "token", "client_secret",
     "AWS_SECRET_ACCESS_KEY", "credentials", "apikey", "authToken", "HF_TOKEN", "private_key"],
)  # fmt: skip
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert sounds_secret(name)


@pytest.mark.parametrize(
    "name",
    ["primary_key", "sort_key", "key", "KEY", "max_tokens", "tokenizer", "pad_token", "EOS_TOKEN", "tokens", "keyboard",
     "foreign_key", "token_id", "password_file", "secret_name", "API_KEY_ENV", "cache_key", "SECRET_PATH", "monkey"],
)  # fmt: skip
def test_names_that_only_look_alike_are_left_alone(name: str) -> None:
    assert not sounds_secret(name)
