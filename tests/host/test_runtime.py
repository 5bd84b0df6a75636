from __future__ import annotations

import dataclasses
import py_compile
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from runpod_flash.host.runtime import RuntimeMissing, Runtimes
from tests.host.conftest import RUNTIME


def test_the_copies_can_be_imported_by_an_interpreter_that_has_nothing(tmp_path: Path) -> None:
    folder = Runtimes(tmp_path).ensure(RUNTIME)
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import _flash_cloudpickle, msgspec, runpod_flash.wire;"
        "import tetra_rp;"
        "print(_flash_cloudpickle.__name__, msgspec.json.encode([1]).decode())"
    )
    command = [getattr(sys, "_base_executable", sys.executable), "-I", "-S", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "_flash_cloudpickle [1]\n"
    assert not list(folder.rglob("*.pyi"))


def test_a_gallery_that_is_served_by_a_worker_has_its_pages(tmp_path: Path) -> None:
    folder = Runtimes(tmp_path).ensure(RUNTIME)
    code = (
        "from runpod_flash.apps import index; from runpod_flash.web import swagger;"
        "page, style = index.page('Gallery', '', [], loading=False), swagger.asset('swagger-ui.css').body;"
        "print(index.__file__, len(page), len(style))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, env={"PYTHONPATH": "."}
    )
    file, page, style = ran.stdout.split()
    assert file.startswith(str(folder))
    assert int(page) > 1000
    assert int(style) > 10_000


def test_what_the_caller_has_compiled_is_not_compiled_again(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("VALUE = 1\n")
    py_compile.compile(str(package / "module.py"))
    folder = Runtimes(tmp_path / "runtimes").ensure(dataclasses.replace(RUNTIME, package=str(package)))
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import package.module"
    said = subprocess.run([sys.executable, "-v", "-c", code], capture_output=True, text=True, check=True).stderr
    assert f"code object from '{cache_from_source(folder / 'package' / 'module.py')}'" in said


def test_a_runtime_outlives_the_environment_that_it_came_from(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path)
    folder = runtimes.ensure(RUNTIME)
    gone = dataclasses.replace(RUNTIME, package="/gone", cloudpickle="/gone", msgspec="/gone")
    assert runtimes.ensure(gone) == folder


def test_a_source_that_is_gone_is_an_error_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path)
    gone = dataclasses.replace(RUNTIME, key="other", msgspec="/gone")
    with pytest.raises(RuntimeMissing, match="/gone"):
        runtimes.ensure(gone)
    assert not runtimes.path("other").exists()
    assert len(runtimes.sweep()) == 1


def test_a_key_cannot_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name of a folder"):
        Runtimes(tmp_path).path("../x")
