"""Distributions of other owners that bring packages of our names are noticed, and the mend that is told mends."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from runpod_flash import installation

ROOT = Path(__file__).parents[1]
UV = (sys.executable, "-m", "uv")


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A real, tiny distribution."""
    info = f"{name}-9.9.9.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={digest(text)},{len(text)}" for path, text in files.items()]
    file = folder / f"{name}-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]))
    return file


def digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Venv:
    """An environment with a copy of us in it, installed from a wheel."""

    def __init__(self, folder: Path, ours: Path) -> None:
        self.python = folder / "bin" / "python"
        run([*UV, "venv", "--quiet", "--offline", "--python", sys.executable, folder])
        self.install(ours)
        # What we depend on is borrowed: it takes no part in this.
        (packages,) = (folder / "lib").glob("python3*/site-packages")
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        self.packages = packages

    def install(self, wheel: Path) -> None:
        run([*UV, "pip", "install", "--python", self.python, "--offline", "--no-deps", wheel])

    def flash(self) -> str:
        """What the command line says on stderr of any command."""
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.packages), "FLASH_HOME": str(self.packages / "home")}
        command = [str(self.python.parent / "flash"), "engine", "status"]
        return subprocess.run(command, capture_output=True, text=True, env=environ, check=False).stderr


def run(command: list[str | Path]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own wheel."""
    folder = tmp_path_factory.mktemp("ours")
    run([*UV, "build", "--wheel", "--no-build-isolation", "--offline", "--out-dir", folder, ROOT])
    (file,) = folder.glob("*.whl")
    return file


def test_a_foreign_distribution_is_told_by_the_command_line_and_the_commands_it_gives_mend_it(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = Venv(tmp_path / "venv", ours)
    assert "installed beside" not in venv.flash()
    venv.install(wheel(tmp_path, "runpod_flash", {"runpod_flash/__init__.py": "", "runpod_flash/of_theirs.py": ""}))
    venv.install(wheel(tmp_path, "tetra_rp", {"tetra_rp/of_theirs.py": ""}))

    said = venv.flash()
    assert "runpod-flash 9.9.9 is installed beside flash-anywhere" in said
    assert "it has replaced 1 file of ours (runpod_flash/__init__.py)" in said
    assert "tetra-rp 9.9.9 is installed beside flash-anywhere" in said
    assert "it claims 1 file in our folder" in said

    for claim in installation.claims([], here=venv.packages):
        assert claim.fix.startswith(f"{sys.executable} -m pip uninstall --yes {claim.distribution}\n")
    # In an environment without pip the commands are those of uv, which make fewer processes and files.
    monkeypatch.setattr(installation, "_has_pip", lambda: False)
    for claim in installation.claims([], here=venv.packages):
        fix = claim.fix.replace(sys.executable, str(venv.python)).replace(f"--editable {ROOT}", f"--offline {ours}")
        for command in fix.splitlines():
            run([*UV, *shlex.split(command)[1:]])
    assert "installed beside" not in venv.flash()
    assert not list(venv.packages.glob("*/of_theirs.py"))


def test_a_copy_elsewhere_on_the_path_is_a_claim_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(tmp_path, "tetra_rp", {"tetra_rp/__init__.py": ""})) as archive:
        archive.extractall(tmp_path / "elsewhere")
    (claim,) = installation.claims([str(tmp_path / "elsewhere"), str(tmp_path / "missing")])
    assert (claim.distribution, claim.version, claim.replaced, claim.shared) == ("tetra-rp", "9.9.9", (), False)
    assert f"its packages are in {tmp_path / 'elsewhere'}" in claim.why


def test_a_distribution_of_that_name_without_files_among_ours_does_no_harm(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(tmp_path, "runpod_flash", {"something.py": ""})) as archive:
        archive.extractall(tmp_path / "elsewhere")
    assert installation.claims([str(tmp_path / "elsewhere")]) == []


def test_this_installation_knows_where_it_came_from() -> None:
    assert installation.origin() == f"--editable {ROOT}"
    assert installation.claims() == []
