"""The artifact: a project's files as one archive, the same bytes whenever and wherever it is made of the same files."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from runpod_flash.errors import ConfigError

TIME: Final = 315_532_800
"""When all its files were changed last: the beginning of 1980, which every archive format can tell."""
_LEVEL: Final = 6


class FileFacts(NamedTuple):
    """One file of an artifact."""

    path: str
    bytes: int
    sha256: str
    executable: bool


class Written(NamedTuple):
    """An archive. `bytes` is its size, compressed."""

    path: Path
    bytes: int
    sha256: str


def read_files(root: Path, paths: Sequence[str]) -> list[FileFacts]:
    """Sizes and contents' digests. ConfigError names a file that cannot be read."""
    return [_facts(root, path) for path in paths]


def content_digest(files: Sequence[FileFacts]) -> str:
    """64 hexadecimal digits that name all that is in an artifact, but for its manifest."""
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.path}\0{one.sha256}\0{int(one.executable)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write(archive: Path, root: Path, files: Sequence[FileFacts], more: Mapping[str, bytes]) -> Written:
    """Writes `files` of `root`, and `more` by their names, in the order of their paths."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
            _fill(packed, root, files, more)
        temporary.replace(archive)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with archive.open("rb") as found:
        digest = hashlib.file_digest(found, "sha256") if hasattr(hashlib, "file_digest") else _digest(found)
    return Written(archive, archive.stat().st_size, digest.hexdigest())


def _fill(packed: gzip.GzipFile, root: Path, files: Sequence[FileFacts], more: Mapping[str, bytes]) -> None:
    known = {one.path: one for one in files}
    # A format without numbers of users, and with names of any length.
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted({*known, *more}):
            if path in more:
                tar.addfile(_entry(path, len(more[path]), executable=False), io.BytesIO(more[path]))
                continue
            with (root / path).open("rb") as file:
                tar.addfile(_entry(path, known[path].bytes, executable=known[path].executable), file)


def _entry(path: str, size: int, *, executable: bool) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mtime, entry.mode = size, TIME, 0o755 if executable else 0o644
    return entry


def _facts(root: Path, path: str) -> FileFacts:
    try:
        with (root / path).open("rb") as file:
            found = os.fstat(file.fileno())
            return FileFacts(path, found.st_size, _digest(file).hexdigest(), bool(found.st_mode & 0o100))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read",
            where=str(root / path),
            why=error.strerror,
            fix=f"put a line {path} in .flashignore",
        ) from None


def _digest(file: io.BufferedReader) -> hashlib._Hash:
    digest = hashlib.sha256()
    while data := file.read(1 << 20):
        digest.update(data)
    return digest
