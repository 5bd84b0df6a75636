"""A backup: a folder, or the same in a tar file, from which a store can be made again.

    manifest.json     what this is, of which version, and size and checksum (blake3) of every other file
    store.sqlite      the store as it was at one moment, whatever was written meanwhile
    blobs/ab/ab…      the blob files that its rows name
    artifacts/….tar.gz  the projects of its releases, by which deployed apps are served again

A folder holds hard links to blobs and artifacts where it can: neither ever changes, so both names may have the same
bytes. Logs, environments and files on volumes are not in it; environments are built again when they are needed. Nor are
secrets, which leave the data folder only as variables of workers: the manifest has their names, so that who restores it
elsewhere is told what to set.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from runpod_flash._version import __version__
from runpod_flash.engine.store import deployed, opening, verify
from runpod_flash.engine.store.explain import explain
from runpod_flash.errors import StoreError, UsageError
from runpod_flash.wire import artifacts, blobs

KIND: Final = "flash-backup"
FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
STORE: Final = "store.sqlite"
BLOBS: Final = "blobs"
ARCHIVES: Final = (".tar", ".tar.gz", ".tgz")
ARTIFACTS: Final = artifacts.FOLDER
_NAMES: Final = re.compile(
    rf"{re.escape(STORE)}|{BLOBS}/[0-9a-f]{{2}}/[0-9a-f]{{32}}|{ARTIFACTS}/[0-9a-f]{{64}}{re.escape(artifacts.SUFFIX)}"
)
_KEPT_AS_THEY_ARE: Final = (f"{BLOBS}/", f"{ARTIFACTS}/")
"""Files that never change, so that a second name for them will do."""
_CHUNK: Final = 1 << 20
_PAGES: Final = 4096


# ── writing ───────────────────────────────────────────────────────────────────────────────────────


def write(home: Path, store: Path, blob_folder: Path, target: Path, *, force: bool = False) -> dict[str, Any]:
    """Writes a backup of the store to `target`, all of it or nothing; its manifest, without the list of files.

    `home`: the data folder, which has artifacts and secrets.

    Whoever calls keeps the blobs from being collected meanwhile.
    """
    _check_target(target, force=force)
    # Beside its final name: on the same disk, and in sight of whoever wonders what fills it.
    draft = target.with_name(f".{target.name}.{os.getpid()}.partial")
    scratch = draft if not _is_archive(target) else draft.with_suffix(".folder")
    try:
        scratch.mkdir(mode=0o700)
        manifest = _fill(home, store, blob_folder, scratch, draft if _is_archive(target) else None, target.name)
        _put_in_place(draft, target)
    except OSError as error:
        raise _cannot_write(target, error) from None
    except sqlite3.Error as error:
        full = "disk is full" in str(error) or "disk I/O" in str(error)
        raise (_cannot_write(target, OSError(errno.ENOSPC, str(error))) if full else explain(error, store)) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _remove(draft)
    return manifest


def _fill(home: Path, store: Path, blob_folder: Path, scratch: Path, archive: Path | None, name: str) -> dict[str, Any]:
    made_at_ms = time.time_ns() // 1_000_000
    _copy_store(store, scratch / STORE)
    counted = verify.facts(scratch / STORE)
    with _Archive(archive, name) if archive else contextlib.nullcontext(_Folder(scratch)) as sink:
        files = [sink.add(STORE, scratch / STORE)]
        missing = []
        for blob in _named(scratch / STORE):
            try:
                files.append(sink.add(f"{BLOBS}/{blob[:2]}/{blob}", blobs.path_of(blob_folder, blob)))
            except FileNotFoundError:  # verify tells of it; what is there is worth a backup all the same
                missing.append(blob)
        for archive in deployed.archives(scratch / STORE, home):
            with contextlib.suppress(FileNotFoundError):  # as above
                files.append(sink.add(f"{ARTIFACTS}/{archive.name}", archive))
        manifest = {"kind": KIND, "format": FORMAT, "version": __version__, "made_at_ms": made_at_ms, **counted}
        manifest |= {"bytes": sum(file["size"] for file in files), "missing_blobs": missing}
        manifest["secrets"] = deployed.secrets(scratch / STORE, home)
        written = scratch / MANIFEST
        written.write_text(json.dumps({**manifest, "files": files}, indent=1) + "\n", encoding="utf-8")
        sink.add(MANIFEST, written)
    return manifest


def _copy_store(store: Path, copy: Path) -> None:
    """The store at one moment: read under one snapshot, beside a writer that goes on.

    In steps, so that Ctrl-C is heard. Without the snapshot each commit of the writer would make it begin anew.
    """
    copy.touch(mode=0o600)
    with contextlib.closing(_reading(store)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(target, pages=_PAGES)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it


def _reading(store: Path) -> sqlite3.Connection:
    if not store.is_file():
        raise StoreError(f"there is no store {store}", why="no engine has run in this data folder yet")
    return opening.connect_to_read(store)


def _named(store: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(store)) as db:
        return [row[0] for row in db.execute("SELECT DISTINCT id FROM blobs ORDER BY id") if blobs.is_id(row[0])]


class _Folder:
    """A folder; what was made in it is there already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, path: Path) -> dict[str, Any]:
        target = self._folder / name
        if target != path:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link_or_copy(path, target)
        _sync(target)
        return entry(name, target)


class _Archive:
    """A tar file, compressed where its name says so."""

    def __init__(self, draft: Path, name: str) -> None:
        self._file = open(draft, "xb", opener=_private)  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.open(fileobj=self._file, mode="w" if name.endswith(".tar") else "w:gz")  # noqa: SIM115

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if error is None:
                self._tar.close()
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def add(self, name: str, path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = os.fstat(file.fileno()).st_size, 0o600, int(time.time())
            self._tar.addfile(info, file)
        return entry(name, path)


def entry(name: str, path: Path) -> dict[str, Any]:
    """Name, size and checksum of a file."""
    digest, size = blake3(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"name": name, "size": size, "blake3": digest.hexdigest()}


def link_or_copy(path: Path, target: Path) -> None:
    """A second name for a file that never changes; a copy where the disk is another one."""
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, target)
        target.chmod(0o600)


def _check_target(target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", fix=f"make it first: mkdir -p {target.parent}")
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(f"{target} is there already", fix="name another place, or add --force to write over it")
    if not (target.is_file() or target.is_dir()) or target.is_symlink():
        raise UsageError(f"{target} is neither a file nor a folder", fix="name another place")
    if target.is_dir() and any(target.iterdir()) and not _is_backup(target):
        raise UsageError(
            f"{target} is a folder, and no backup", why="--force writes over backups only", fix="name another place"
        )


def _is_backup(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_bytes())["kind"] == KIND)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_archive(target: Path) -> bool:
    return target.name.endswith(ARCHIVES)


def _put_in_place(draft: Path, target: Path) -> None:
    """The last step, and the only one that shows."""
    before = draft.with_suffix(".before")
    if target.is_dir():
        target.rename(before)  # a folder cannot be renamed over one that is not empty
    try:
        draft.replace(target)
    except OSError:
        if before.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)
    blobs.sync_folder(target.parent)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _cannot_write(target: Path, error: OSError) -> StoreError:
    fix = "free some space, or name a place on another disk" if error.errno == errno.ENOSPC else "name another place"
    return StoreError(
        f"the backup {target} cannot be written", why=error.strerror or str(error), fix=f"{fix}; nothing is left of it"
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def unpack(source: Path, folder: Path) -> dict[str, Any]:
    """Puts the files of a backup into `folder`, all of them checked; its manifest. StoreError if it is not sound."""
    try:
        files = _from_folder(source, folder) if source.is_dir() else _from_archive(source, folder)
    except FileNotFoundError:
        raise UsageError(
            f"there is no backup {source}",
            why="the file or folder, or a part of it, does not exist",
            fix="make one with: flash engine backup",
        ) from None
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StoreError(f"there is no room for the backup in {folder.parent}", fix="free some space") from None
        raise _unsound(source, f"it cannot be read: {error}") from None
    manifest = _manifest(source, folder)
    expected = {file["name"]: file for file in manifest.pop("files")}
    for name in sorted(expected):
        if name not in files:
            raise _unsound(source, f"{name} is missing")
        if files[name] != expected[name]:
            raise _unsound(source, f"{name} is not what it was: its size or checksum differs from the manifest's")
    for name in files.keys() - expected.keys():
        (folder / name).unlink()
    if problems := [one for one in verify.verify(folder / STORE, folder / BLOBS) if one.check == "pages"]:
        raise _unsound(source, problems[0].what)
    return manifest


def _from_folder(source: Path, folder: Path) -> dict[str, dict[str, Any]]:
    files = {}
    more = [*source.glob(f"{BLOBS}/*/*"), *source.glob(f"{ARTIFACTS}/*")]
    for path in [source / MANIFEST, source / STORE, *sorted(more)]:
        name = path.relative_to(source).as_posix()
        if name == MANIFEST or _NAMES.fullmatch(name):
            target = folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The store is about to be written to, and the others are not.
            if name.startswith(_KEPT_AS_THEY_ARE):
                link_or_copy(path, target)
            else:
                shutil.copyfile(path, target)
            files[name] = entry(name, target)
    files.pop(MANIFEST)
    return files


def _from_archive(source: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Only files of names that a backup has: an archive may come from anywhere, and name anything."""
    files = {}
    with tarfile.open(source) as tar:
        for member in tar:
            if not member.isreg() or not (member.name == MANIFEST or _NAMES.fullmatch(member.name)):
                continue
            target = folder / member.name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            contents = tar.extractfile(member)
            assert contents is not None
            with contents, open(target, "wb", opener=_private) as file:
                shutil.copyfileobj(contents, file, _CHUNK)
            files[member.name] = entry(member.name, target)
    files.pop(MANIFEST, None)
    return files


def _manifest(source: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
        kind, form, version = found["kind"], int(found["format"]), int(found["store_version"])
        _entries = [(file["name"], file["size"], file["blake3"]) for file in found["files"]]
    except FileNotFoundError:
        raise UsageError(
            f"{source} is no backup: it has no {MANIFEST}",
            why="every backup has one, which says what is in it",
            fix="name the file or folder that flash engine backup made",
        ) from None
    except (ValueError, KeyError, TypeError, OSError):
        raise _unsound(source, f"its {MANIFEST} cannot be read") from None
    if kind != KIND or STORE not in {name for name, _, _ in _entries}:
        raise UsageError(
            f"{source} is no backup of Flash",
            why=f"its {MANIFEST} is that of something else",
            fix="name the file or folder that flash engine backup made",
        )
    if form > FORMAT or version > opening.VERSION:
        raise StoreError(
            f"the backup {source} is of a newer Flash ({found.get('version', 'unknown')})",
            why=f"its store is of version {version}; this program knows up to {opening.VERSION}",
            fix="upgrade this one: pip install -U flash-anywhere",
        )
    return dict(found)


def _unsound(source: Path, why: str) -> StoreError:
    return StoreError(f"the backup {source} is damaged", why=why, fix="use another backup; nothing was changed")


@contextlib.contextmanager
def staging(home: Path) -> Iterator[Path]:
    """A folder in which a backup is unpacked and looked at; it goes with whatever is still in it."""
    folder = home / f".restore.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
