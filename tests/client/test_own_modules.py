"""Modules of the user's own that a function imports in its body: which travel, and how they live in a worker."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.client.shipment import Shipment, prepare
from runpod_flash.errors import ScopeError
from tests.client.bare import BareProcess


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareProcess]:
    process = BareProcess(tmp_path_factory.mktemp("runtime"))
    yield process
    process.close()


class Project:
    """A folder on the path; its modules are never imported here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> None:
        for name, text in files.items():
            file = self.folder / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def ship(self, body: str, **namespace: object) -> Shipment:
        """A function with that body, of a module of the user's."""
        text = "def work(*args):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        file = self.folder / f"program_{abs(hash(body))}.py"
        file.write_text(text)
        module = types.ModuleType(file.stem)
        vars(module).update(namespace, __file__=str(file))
        exec(compile(text, str(file), "exec"), vars(module))
        return prepare(vars(module)["work"], ())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Project(tmp_path)


def test_versions_of_a_module_live_side_by_side_each_with_its_own_state(project: Project, bare: BareProcess) -> None:
    def answers(found: Shipment) -> str:
        answer: tuple[str, str] = bare.run(found.packed.digest, found.packed.defs)
        assert answer[0] == "ok", answer
        return answer[1]

    body = "import counter\nfrom counter.steps import step\ncounter.total += step()\nreturn counter.total"
    project.write(counter__init="total = 0\n", counter__steps="def step(): return 1\n")
    old = project.ship(body)
    project.write(counter__steps="def step():\n    return 10\n")
    new = project.ship(body + "\n")
    assert old.version != new.version
    assert [answers(one) for one in (old, old, new, old, new)] == ["1", "2", "10", "3", "20"]
    neighbour = project.ship("import counter\nreturn counter.total")
    assert answers(neighbour) in ("3", "20"), "functions of one version share their modules"
    assert not {"counter", "counter.steps"} & set(sys.modules)


def test_relative_imports_in_a_function_of_a_package_are_resolved_by_its_package(
    project: Project, bare: BareProcess
) -> None:
    project.write(team__init="", team__beside="NAME = __name__\n")
    found = project.ship("from . import beside\nfrom .beside import NAME\nreturn NAME", __package__="team")
    assert bare.run(found.packed.digest, found.packed.defs) == ("ok", "'team.beside'")


def test_an_error_in_a_module_that_travelled_shows_its_lines(project: Project, bare: BareProcess) -> None:
    project.write(broken="import json\n\ndef fail():\n    return json.nothing_of_this_name\n")
    found = project.ship(
        "import broken, traceback\ntry:\n    broken.fail()\nexcept AttributeError:\n    return traceback.format_exc()"
    )
    (project.folder / "broken.py").unlink()
    _, shown = bare.run(found.packed.digest, found.packed.defs)
    assert f'{project.folder / "broken.py"}", line 4, in fail' in shown
    assert "return json.nothing_of_this_name" in shown


def test_what_own_modules_import_is_required_if_it_is_needed_to_import_them(project: Project) -> None:
    project.write(
        needs="import iniconfig\ntry:\n    import nothing_of_this_name\nexcept ImportError:\n    pass\n"
        "def later():\n    import nothing_of_that_name\n"
    )
    assert [one.partition("==")[0] for one in project.ship("import needs\nreturn needs").requirements] == ["iniconfig"]
    project.write(lacks="import nothing_of_this_name\n")
    with pytest.raises(ScopeError) as caught:
        project.ship("import lacks")
    assert caught.value.names == ("nothing_of_this_name",)
    assert f"{project.folder / 'lacks.py'}:1" in str(caught.value)


def test_more_source_than_may_travel_and_what_has_none_are_refused(project: Project) -> None:
    project.write(enormous="TEXT = '" + "x" * (9 << 20) + "'\n")
    (project.folder / "machine_code.so").write_bytes(b"")
    with pytest.raises(ScopeError) as caught:
        project.ship("import enormous")
    assert "9 MiB of source" in str(caught.value)
    (project.folder / "machine_code.cpython.so").touch()
    import importlib.machinery

    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (project.folder / f"machine_code{suffix}").touch()
    with pytest.raises(ScopeError, match="machine_code  is a compiled module of yours"):
        project.ship("import machine_code")


def test_a_secret_is_seen_through_a_module_of_settings(project: Project) -> None:
    settings = types.ModuleType("my_settings")
    vars(settings).update(API_KEY="sk-1", NAME="shop")
    with pytest.raises(ScopeError) as caught:
        project.ship("return my_settings.API_KEY, my_settings.NAME", my_settings=settings)
    assert caught.value.names == ("my_settings.API_KEY",)


def test_a_script_run_as_a_module_brings_its_package(project: Project, tmp_path: Path) -> None:
    project.write(
        shop__init="",
        shop__prices="TAX = 2\n",
        shop__main_program=(
            "from runpod_flash.client.shipment import prepare\n"
            "from runpod_flash.client.imports import imports_of_scope\n"
            "def work():\n    from .prices import TAX\n    import shop.main_program\n    return TAX\n"
            "print(sorted(imports_of_scope(prepare(work, ()).scope).sources))\n"
        ),
    )
    command = [sys.executable, "-m", "shop.main_program"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['shop', 'shop.main_program', 'shop.prices']", done.stderr
