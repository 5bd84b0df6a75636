"""Files into and out of a volume. Paths inside of one never lead out of it, and a file is there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_PIECE: Final = 1 << 20


class PathRefused(ValueError):
    """A path that leads out of its volume, or cannot be one."""


class Item(NamedTuple):
    """One thing to copy: where it is, and its name below what is copied ("" for that itself)."""

    source: Path
    name: str
    kind: str  # file | folder | link
    size: int


def inside(files: Path, path: str) -> Path:
    """Where `path` of a volume lies. PathRefused for `..`, absolute paths, and links that lead out."""
    parts = path.split("/")
    if "\0" in path:
        raise PathRefused(f"{path!r} has a NUL in it, which no path can have")
    if path.startswith("/"):
        raise PathRefused(f"{path!r} is a path of the machine: inside of a volume, write {path.lstrip('/') or '.'!r}")
    if ".." in parts:
        raise PathRefused(f"{path!r} would lead out of the volume")
    found = files.joinpath(*(part for part in parts if part not in ("", ".")))
    real, root = found.parent.resolve() if found != files else files.resolve(), files.resolve()
    if not real.is_relative_to(root) or (found.is_symlink() and not found.resolve().is_relative_to(root)):
        raise PathRefused(f"{path!r} is a link that leads out of the volume")
    return found


def plan(source: Path) -> list[Item]:
    """Everything below `source`, folders before what is in them. PathRefused for a link that leads out of it."""
    if not source.is_dir():
        return [Item(source, "", "file", source.stat().st_size)]
    return [Item(source, "", "folder", 0), *_below(source, source.resolve(), "")]


def copy(items: list[Item], target: Path, wrote: Callable[[int], None]) -> None:
    """Copies what was planned to `target`; `wrote` hears of each number of bytes."""
    for item in items:
        place = target / item.name if item.name else target
        if item.kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
        elif item.kind == "link":
            place.unlink(missing_ok=True)
            place.symlink_to(os.readlink(item.source))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(item.source, place, wrote)


def _below(folder: Path, root: Path, name: str) -> Iterator[Item]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        path, inner = Path(entry.path), f"{name}{entry.name}"
        if entry.is_symlink():
            if os.path.isabs(os.readlink(path)) or not path.resolve().is_relative_to(root):
                raise PathRefused(f"{path} is a link to {os.readlink(path)!r}, which is not in what is copied")
            yield Item(path, inner, "link", 0)
        elif entry.is_dir():
            yield Item(path, inner, "folder", 0)
            yield from _below(path, root, f"{inner}/")
        elif entry.is_file():
            yield Item(path, inner, "file", entry.stat().st_size)


def _copy_file(source: Path, target: Path, wrote: Callable[[int], None]) -> None:
    """Under another name first: nobody reads half of it, and what was there stays if the disk is full."""
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while piece := reader.read(_PIECE):
                writer.write(piece)
                wrote(len(piece))
        shutil.copymode(source, temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
