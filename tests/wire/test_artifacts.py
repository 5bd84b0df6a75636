"""Artifacts that no release needs any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

from runpod_flash.wire import artifacts


def test_what_is_neither_needed_nor_young_goes_with_its_archive(tmp_path: Path) -> None:
    assert artifacts.sweep(tmp_path, ()) == []
    for name in ("needed", "young", "old"):
        folder = artifacts.folder_of(tmp_path, name)
        folder.mkdir(parents=True)
        (folder / "main.py").write_text("x")
        archive = artifacts.archive_of(folder)
        archive.write_text("x")
        if name != "young":
            for path in (folder, archive):
                os.utime(path, (time.time() - 2 * artifacts.YOUNG_S,) * 2)
    assert artifacts.sweep(tmp_path, ["needed"]) == ["old", "old.tar.gz"]
    left = sorted(path.name for path in (tmp_path / artifacts.FOLDER).iterdir())
    assert left == ["needed", "needed.tar.gz", "young", "young.tar.gz"]
