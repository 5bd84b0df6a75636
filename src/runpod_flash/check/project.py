"""The project around a file: which folders belong to it, and what it requires."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

from runpod_flash.settings import project_root


@functools.lru_cache(maxsize=256)
def project_requirements(folder: Path) -> tuple[str, ...]:
    """What the project around a folder requires: the nearest pyproject.toml or requirements.txt that says something."""
    for place in up_to_root(folder):
        found = [*_of_pyproject(place / "pyproject.toml"), *_of_requirements(place / "requirements.txt")]
        if found:
            return tuple(found)
    return ()


def lies_beside(folder: Path, top: str) -> bool:
    """Whether a module of this name lies in the folder or, up to the project's root, around it."""
    return any(_is_module(place / top) or _is_module(place / "src" / top) for place in up_to_root(folder))


@functools.lru_cache(maxsize=1024)
def up_to_root(folder: Path) -> tuple[Path, ...]:
    """A folder and those around it, up to that of its project; without a project only itself."""
    root = project_root(folder)
    around = (folder, *folder.parents)
    return around[: around.index(root) + 1] if root in around else (folder,)


@functools.lru_cache(maxsize=4096)
def _is_module(path: Path) -> bool:
    return path.with_name(f"{path.name}.py").is_file() or (path.is_dir() and any(path.glob("*.py")))


def _of_pyproject(path: Path) -> list[str]:
    if not path.is_file():
        return []
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - only where there is a project
    else:
        import tomli as tomllib  # noqa: PLC0415 - see above
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):  # no project, or a file that other tools complain about
        return []
    return [one for one in said if isinstance(one, str)] if isinstance(said, list) else []


def _of_requirements(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    bare = (re.split(r"\s#|^#", line)[0].strip() for line in lines)
    return [line for line in bare if line and not line.startswith("-")]
