"""Which files are checked: those named, and in folders every `.py` that no ignore file leaves out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.check.source import LARGEST
from runpod_flash.errors import UsageError, did_you_mean

IGNORE_FILES: Final = (".gitignore", ".flashignore")
_NEVER: Final = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "__pypackages__"})
_PYTHON: Final = (".py", ".pyi", ".pyw")


class Found(NamedTuple):
    """A file to check, as it is shown."""

    path: Path
    shown: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not checked, and why."""

    path: str
    reason: str


def find(paths: Iterable[str]) -> Iterator[Found | Skipped]:
    """The files below `paths`, each once, in order. UsageError names a path that is not there."""
    seen: set[str] = set()
    for path in paths:
        for one in _below(path):
            name = os.path.realpath(one.path)
            if name not in seen:
                seen.add(name)
                yield one


def _below(path: str) -> Iterator[Found | Skipped]:
    shown = os.path.normpath(path)
    if not os.path.lexists(path):
        raise UsageError(f"there is no file or folder {path!r}.{_meant(Path(path))}", fix="flash check --help")
    if os.path.isdir(path):
        yield from _walk(shown, tuple(_ignored_above(shown)))
    elif shown.endswith(_PYTHON):
        yield _judged(shown)
    else:
        kind = "a notebook" if shown.endswith(".ipynb") else "no Python file (.py)"
        yield Skipped(shown, f"it is {kind}")


def _walk(folder: str, above: tuple[_Ignored, ...]) -> Iterator[Found | Skipped]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(folder, f"the folder cannot be read: {error.strerror}")
        return
    ignored = (*above, *_ignored_in(folder, entries))
    for entry in entries:
        path = os.path.join(folder, entry.name) if folder != "." else entry.name
        # A link to a folder is not followed: what it leads to is checked where it is, and links can go in circles.
        is_folder = entry.is_dir(follow_symlinks=False)
        if any(rules.covers(path, is_folder) for rules in ignored):
            continue
        if is_folder and not _never(entry):
            yield from _walk(path, ignored)
        elif not is_folder and entry.name.endswith(".py") and not _links_to_folder(entry):
            yield _judged(path)


def _never(folder: os.DirEntry[str]) -> bool:
    hidden = folder.name.startswith(".")
    return hidden or folder.name in _NEVER or os.path.exists(os.path.join(folder.path, "pyvenv.cfg"))


def _links_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link that leads to itself: reading it says so
        return False


def _judged(path: str) -> Found | Skipped:
    """A file, unless reading it could take for ever."""
    try:
        facts = os.stat(path)
    except OSError:  # reading it fails with the reason
        return Found(Path(path), path)
    if not stat.S_ISREG(facts.st_mode):
        return Skipped(path, "it is no regular file")
    if facts.st_size > LARGEST:
        return Skipped(path, f"it is larger than {LARGEST // 1_000_000} MB: written by a program")
    return Found(Path(path), path)


def _meant(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    return did_you_mean(path.name, names)


# ── ignore files ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Ignored:
    """The patterns of one folder's ignore file; they count for what is below that folder."""

    folder: str
    spec: Any

    def covers(self, path: str, is_folder: bool) -> bool:
        inner = os.path.relpath(path, self.folder).replace(os.sep, "/")
        return bool(self.spec.match_file(f"{inner}/" if is_folder else inner))


def _ignored_in(folder: str, entries: list[os.DirEntry[str]]) -> Iterator[_Ignored]:
    for entry in entries:
        if entry.name in IGNORE_FILES:
            yield from _ignored_by(folder, entry.path)


def _ignored_above(folder: str) -> Iterator[_Ignored]:
    """The ignore files of the folders around `folder`, up to that of the repository."""
    inner = Path(folder).absolute()
    for outer in inner.parents:
        if os.path.exists(inner / ".git"):
            return
        inner = outer
        for name in IGNORE_FILES:
            yield from _ignored_by(str(outer), str(outer / name))


def _ignored_by(folder: str, file: str) -> Iterator[_Ignored]:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            yield _Ignored(folder, _spec(opened.read().splitlines()))
    except (OSError, ValueError):  # none there, or a pattern that git would not understand either
        return


def _spec(lines: list[str]) -> Any:
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where there is an ignore file

    return GitIgnoreSpec.from_lines(lines)
