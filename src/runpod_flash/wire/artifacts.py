"""Where artifacts lie: `<data folder>/artifacts/<digest>.tar.gz`, and unpacked beside that, `<digest>/`.

Whoever deploys puts the archive there, the host unpacks it, and the engine removes what no release needs any more.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

FOLDER: Final = "artifacts"
SUFFIX: Final = ".tar.gz"
_DIGEST: Final = re.compile("[0-9a-f]{64}")
YOUNG_S: Final = 3600
"""A deploy that has just put its archive there is not on record yet."""


def folder_of(home: Path, digest: str) -> Path:
    """Where an artifact is unpacked."""
    return home / FOLDER / digest


def archive_of(folder: Path) -> Path:
    """The archive that is unpacked there."""
    return folder.with_name(folder.name + SUFFIX)


def here(home: Path, folder: Path) -> Path:
    """Where an artifact is unpacked that a release knows by its place in another data folder.

    Such releases came from a backup. A folder that is no artifact's stays what it is.
    """
    mine = folder_of(home, folder.name)
    is_artifact = folder.parent.name == FOLDER and _DIGEST.fullmatch(folder.name) is not None
    return mine if is_artifact and archive_of(mine).is_file() else folder


def sweep(home: Path, needed: Iterable[str]) -> list[str]:
    """Removes all that is neither needed nor young; the names of what it removed."""
    kept, before = set(needed), time.time() - YOUNG_S
    removed: list[str] = []
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.removesuffix(SUFFIX) in kept or path.stat().st_mtime > before:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path.name)
    return removed
