"""An index of packages in a folder, and a gallery that is resolved from it: no network."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from runpod_flash.apps.consolidation.resolving import of_flash


class Index:
    """A folder of wheels that uv looks through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, *versions: str, requires: str = "") -> None:
        """Wheels of a package with nothing in it."""
        for version in versions:
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {requires}"] if requires else []
            lines += [f"Provides-Extra: {extra}" for extra in ("email", "standard")]
            info = f"{name.replace('-', '_')}-{version}.dist-info"
            texts = {
                f"{info}/METADATA": "\n".join(lines) + "\n",
                f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            }
            rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in texts.items()]
            texts[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
            with zipfile.ZipFile(self.folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl", "w") as wheel:
                for path, text in texts.items():
                    wheel.writestr(path, text)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Gallery:
    """A folder with categories of examples."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def example(self, name: str, *dependencies: str) -> Path:
        """Writes one example's pyproject.toml."""
        file = self.root / name / "pyproject.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "main.py").touch()
        file.write_text(f'[project]\nname = "{file.parent.name}"\nversion = "0"\ndependencies = {list(dependencies)}\n')
        return file

    def text(self, name: str) -> str:
        """What one of the gallery's own files holds."""
        return (self.root / name).read_text(encoding="utf-8")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """All that uv finds: at first what Flash itself needs."""
    found = Index(tmp_path / "index")
    for one in map(Requirement, of_flash()):
        found.add(one.name, next(bound.version for bound in one.specifier))
    configuration = tmp_path / "uv.toml"
    configuration.write_text(f'no-index = true\nfind-links = ["{found.folder}"]\n')
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return found


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """A gallery in a folder with a space in its name."""
    return Gallery(tmp_path / "my gallery")
