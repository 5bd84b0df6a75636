"""Names, variables, packages and pools: all of them the caller's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runpod_flash import CpuLiveServerless, LiveServerless
from runpod_flash.client import environment
from runpod_flash.errors import MissingVariableError, SystemPackageError


def test_an_app_is_named_after_the_nearest_project_and_told_from_its_namesakes(tmp_path: Path) -> None:
    names = []
    for folder in (tmp_path / "a" / "shop", tmp_path / "b" / "shop"):
        (folder / "workers").mkdir(parents=True)
        (folder / "pyproject.toml").touch()
        script = folder / "workers" / "main.py"
        script.write_text("from runpod_flash.client.environment import app_name; print(app_name(None))")
        run = subprocess.run([sys.executable, str(script)], cwd="/", capture_output=True, text=True, check=True)
        names.append(run.stdout.strip())
    assert all(re.fullmatch(r"shop-[0-9a-f]{6}", name) for name in names)
    assert names[0] != names[1]


def test_a_program_that_is_no_script_belongs_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.app_name(None).startswith(f"{tmp_path.name}-"), "pytest itself is installed, and no project"
    assert environment.app_name("chosen") == "chosen"
    monkeypatch.setattr(environment, "_program", tmp_path / "caf\udce9")
    assert environment.app_name(None).startswith("caf\ufffd-"), "no text, as names of folders may be"


def test_none_is_the_callers_own_value_and_then_that_of_the_projects_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".env").write_text("TOKEN=from-file\nOTHER=x\n")
    wanted = {"TOKEN": None, "FIXED": "1"}
    assert environment.resolve_variables(wanted) == {"TOKEN": "from-file", "FIXED": "1"}
    monkeypatch.setenv("TOKEN", "from-caller")
    assert environment.resolve_variables(wanted)["TOKEN"] == "from-caller"


def test_a_missing_variable_is_named_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(MissingVariableError, match="NOWHERE is set nowhere") as caught:
        environment.resolve_variables({"NOWHERE": None}, "file.py:3")
    assert caught.value.where == "file.py:3"
    assert "export NOWHERE=" in str(caught.value)


def test_system_packages_are_refused_where_they_can_never_be_provided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_has_dpkg", lambda: False)
    environment.check_system_packages(())
    with pytest.raises(SystemPackageError, match="the system package jq cannot be provided here") as caught:
        environment.check_system_packages(("jq",), "app.py:4")
    assert caught.value.where == "app.py:4"
    assert "no Debian-like system" in str(caught.value)


def test_a_pool_has_the_callers_interpreter_variables_and_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.example/simple")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("SECRET", "no")
    resource = CpuLiveServerless("pool", cpuCount=2)
    pool = environment.pool_spec(resource, ("numpy",), (), {"A": "1"}, is_async=True)
    assert pool.interpreter == sys._base_executable  # type: ignore[attr-defined]
    assert pool.abi.startswith("cpython-")
    assert pool.index == {"UV_DEFAULT_INDEX": "https://index.example/simple"}
    assert pool.base_env["HF_HOME"] == "/models"
    assert "SECRET" not in pool.base_env
    assert (pool.variables, pool.cpus, pool.concurrency) == ({"A": "1"}, 2, 1)
    gpu = environment.pool_spec(LiveServerless("gpu"), (), (), {}, is_async=True)
    assert [request.name for request in gpu.gpus] == ["any"]


def test_the_runtime_names_files_that_are_there_and_is_the_same_every_time() -> None:
    runtime = environment.runtime_spec()
    assert Path(runtime.package, "worker", "zygote.py").is_file()
    assert Path(runtime.cloudpickle).name == "cloudpickle.py"
    assert Path(runtime.msgspec, "__init__.py").is_file()
    if sys.version_info < (3, 11):  # later ones read TOML by themselves
        assert Path(runtime.tomli, "__init__.py").is_file()
    environment.runtime_spec.cache_clear()
    assert environment.runtime_spec() == runtime
