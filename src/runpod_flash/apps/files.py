"""Which files of a project go into its artifact.

All but what `.gitignore` and `.flashignore` name, in the project's folder and in those below it, and what is never the
app's: `.env` files, version control, environments, caches, and what a build itself writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec

from runpod_flash.errors import ConfigError

IGNORE_FILES: Final = (".gitignore", ".flashignore")
MANIFEST: Final = "flash_manifest.json"
BUILD_FOLDER: Final = ".flash"
_NEVER: Final = GitIgnoreSpec.from_lines([
    ".env", ".env.*", "!.env.example", f"/{BUILD_FOLDER}/", f"/{MANIFEST}", ".git/", ".hg/", ".svn/", ".venv/", "venv/",
    "__pycache__/", "*.py[co]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".ipynb_checkpoints/",
    "node_modules/", ".DS_Store",
])  # fmt: skip
"""What no rule of the user's can bring back."""


def project_files(root: Path, exclude: Iterable[str] = ()) -> list[str]:
    """Paths relative to `root`, with slashes, sorted. `exclude` are further patterns, as in `.gitignore`.

    ConfigError for a link that leads out of the project: what it means is on this machine only.
    """
    own = [("", _NEVER), ("", GitIgnoreSpec.from_lines(exclude))]
    return sorted(_walk(root, "", own))


def _walk(root: Path, below: str, rules: list[tuple[str, GitIgnoreSpec]]) -> Iterator[str]:
    rules = [*rules, *_rules_of(root / below, below)]
    with os.scandir(root / below) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}{entry.name}"
        if not path.isprintable():
            raise _unreadable(root, path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_ignored(f"{path}/" if is_folder else path, rules):
            continue
        if is_folder:
            yield from _walk(root, f"{path}/", rules)
        elif entry.is_symlink():
            yield from _linked(root, path)
        elif entry.is_file():
            yield path


def _rules_of(folder: Path, below: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
    for name in IGNORE_FILES:
        try:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{folder / name} cannot be read", why=str(error)) from None
        yield below, GitIgnoreSpec.from_lines(lines)


def _is_ignored(path: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """The last word counts, as for git; but nothing brings back what is never the app's, or was excluded."""
    (_, never), (_, excluded), *others = rules
    if never.match_file(path) or excluded.match_file(path):
        return True
    ignored = False
    for below, spec in others:
        said = spec.check_file(path.removeprefix(below)).include
        ignored = ignored if said is None else said
    return ignored


def _unreadable(root: Path, path: str) -> ConfigError:
    shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return ConfigError(
        f"the name of {shown!r} cannot be written down in a manifest",
        where=str(root),
        why="it is no UTF-8, or has characters that nobody can see",
        fix="rename it, or move it out of the project",
    )


def _linked(root: Path, path: str) -> Iterator[str]:
    """A link to a file of the project is that file; one to a folder of it is left out: its files are there anyway."""
    target = (root / path).resolve()
    if not target.is_relative_to(root.resolve()):
        raise ConfigError(
            f"{path} is a link that leads out of the project",
            where=str(root / path),
            why=f"it means {target}, which only this machine has",
            fix=f"put the file in its place, or a line {path} in .flashignore",
        )
    if target.is_file():
        yield path
