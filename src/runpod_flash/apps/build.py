"""`flash build`: from a project's folder to its artifact and manifest.

What importing the project has told is kept in `.flash`, and asked for again only if something changed that could make
the answer another one: a file, what is installed, a variable. So building what was built before takes no import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash.apps import artifact, manifest
from runpod_flash.apps.artifact import FileFacts, Written
from runpod_flash.apps.declared import Request, Survey
from runpod_flash.apps.files import BUILD_FOLDER, MANIFEST, project_files
from runpod_flash.apps.project import project_name, project_requirements
from runpod_flash.apps.releasing import check
from runpod_flash.client import environment
from runpod_flash.client.import_failure import ImportFailed
from runpod_flash.errors import FlashError, UsageError, error_from_code

ARTIFACT: Final = "artifact.tar.gz"
_KEPT: Final = "survey"
_NOTHING_TO_DO_WITH_IT: Final = frozenset({
    "_", "COLUMNS", "LINES", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST", "SHLVL", "TERM", "TERM_SESSION_ID", "WINDOWID",
})  # fmt: skip
"""Variables that are others in every terminal, and that no project is declared by."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Options:
    """`exclude`: patterns of files, or names of packages. `output`: where the archive goes, if not into `.flash`."""

    app: str
    env: str
    exclude: tuple[str, ...] = ()
    output: Path | None = None
    dependencies: bool = True


@dataclass(frozen=True)
class Built:
    """What was built."""

    root: Path
    name: str
    survey: Survey
    files: tuple[FileFacts, ...]
    content: str
    archive: Written
    manifest: dict[str, Any]
    unchanged: bool
    """Whether nothing had to be imported."""


class _Kept(msgspec.Struct):
    """What the last build has left."""

    key: str
    survey: Survey
    requirements: list[str]
    archive: str = ""  # the manifest that lies in the archive, and the archive, by their digests
    bytes: int = 0
    sha256: str = ""


def build(root: Path, options: Options) -> Built:
    """Builds a project. FlashError says which file and line is in the way."""
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", fix="name the project's folder, or go there")
    packages, patterns = _excluded(root, options.exclude)
    names = project_files(root, patterns)
    files = tuple(artifact.read_files(root, names))
    content = artifact.content_digest(files)
    folder = _folder(root)
    key = _key(root, options, content, packages)
    kept = _read_kept(folder)
    unchanged = kept is not None and kept.key == key
    if kept is None or not unchanged:
        requirements = _requirements(root, packages) if options.dependencies else []
        request = Request(str(root), options.app, options.env, names, content, requirements, "")
        kept = _Kept(key, _ask(request, folder), requirements)
    if not kept.survey.functions:
        raise UsageError(
            f"there is nothing to build or deploy in {root}",
            why="it declares no remote function and no mothership",
            fix="go to the project's folder, or make one: flash init my_app",
        )
    check(kept.survey)
    described = manifest.describe(project_name(root), kept.survey, files, kept.requirements)
    text = manifest.encode(described)
    for place in (root, folder):
        _replace(place / MANIFEST, text)
    written = _archive(root, options.output or folder / ARTIFACT, files, text, kept)
    _replace(folder / _KEPT, msgspec.msgpack.encode(kept))
    return Built(root, project_name(root), kept.survey, files, content, written, described, unchanged)


# ── what goes in ──────────────────────────────────────────────────────────────────────────────────


def _excluded(root: Path, exclude: Sequence[str]) -> tuple[set[str], list[str]]:
    """Which of these are packages that the project requires; the others are patterns of files."""
    known = {_normal(one) for one in project_requirements(root)} if exclude else set()
    words = [word.strip() for one in exclude for word in one.split(",") if word.strip()]
    packages = {_normal(word) for word in words if _normal(word) in known}
    return packages, [word for word in words if _normal(word) not in packages]


def _requirements(root: Path, without: set[str]) -> list[str]:
    return [one for one in project_requirements(root) if _normal(one) not in without]


def _normal(requirement: str) -> str:
    found = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else requirement


def _folder(root: Path) -> Path:
    """`.flash`, which keeps itself out of version control."""
    folder = root / BUILD_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        if not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n", encoding="ascii")
    except OSError as error:
        raise FlashError(
            f"{folder} cannot be written", why=error.strerror, fix="build in a folder that is yours to write"
        ) from None
    return folder


# ── what is declared ──────────────────────────────────────────────────────────────────────────────


def _key(root: Path, options: Options, content: str, without: set[str]) -> str:
    """Changes with everything that could make the survey another one."""
    variables = sorted((name, value) for name, value in os.environ.items() if name not in _NOTHING_TO_DO_WITH_IT)
    runtime = environment.runtime_spec()
    asked = [options.app, options.env, options.dependencies, sorted(without), content]
    told = [*asked, variables, sys.executable, runtime.key, runtime.version]
    digest = hashlib.sha256(repr(told).encode("utf-8", "surrogateescape"))
    for place in (root / ".env", *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))):
        with contextlib.suppress(OSError):
            found = place.stat()
            digest.update(f"{place} {found.st_mtime_ns} {found.st_size}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _ask(request: Request, folder: Path) -> Survey:
    """Has the project imported in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as scratch:
        request.answer = os.path.join(scratch, "answer")
        command = [sys.executable, "-m", "runpod_flash.apps.survey"]
        sys.stderr.flush()
        ended = subprocess.run(command, input=msgspec.msgpack.encode(request), stdout=2, cwd=request.root, check=False)
        try:
            found = msgspec.msgpack.decode(Path(request.answer).read_bytes(), type=Survey)
        except (OSError, msgspec.MsgspecError):
            raise FlashError(
                "the project could not be imported: its process ended before it had an answer",
                where=request.root,
                why=f"it ended with code {ended.returncode}; what it printed is above",
                fix="run it: flash run; something at the top level of a module ends the process",
            ) from None
    if (failure := found.failure) is not None:
        told = {"where": failure.where, "why": failure.why, "fix": failure.fix}
        if failure.code == ImportFailed.code:
            raise ImportFailed(failure.what, **told)
        error = error_from_code(failure.code, failure.what, why=failure.why, fix=failure.fix)
        error.where = failure.where
        raise error
    return found


def _read_kept(folder: Path) -> _Kept | None:
    try:
        return msgspec.msgpack.decode((folder / _KEPT).read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None


# ── what comes out ────────────────────────────────────────────────────────────────────────────────


def _archive(root: Path, place: Path, files: Sequence[FileFacts], text: bytes, kept: _Kept) -> Written:
    """The archive; that of the last build, if it would be the same."""
    holds = hashlib.sha256(text).hexdigest()
    with contextlib.suppress(OSError):
        if kept.archive == f"{holds} {place}" and place.stat().st_size == kept.bytes:
            return Written(place, kept.bytes, kept.sha256)
    try:
        written = artifact.write(place, root, files, {MANIFEST: text})
    except OSError as error:
        raise FlashError(
            f"{place} cannot be written", why=error.strerror, fix="choose another place with --output"
        ) from None
    kept.archive, kept.bytes, kept.sha256 = f"{holds} {place}", written.bytes, written.sha256
    return written


def _replace(file: Path, content: bytes) -> None:
    """Writes a file as a whole, readable by its owner; one that has this content stays as it is."""
    with contextlib.suppress(OSError):
        if file.read_bytes() == content:
            return
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if file.name == _KEPT else 0o644)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FlashError(f"{file} cannot be written", why=error.strerror) from None
