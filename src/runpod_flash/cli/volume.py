"""`flash volume`: volumes and what is in them. They are folders of the data folder, so no engine is asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runpod_flash.cli import consent, views
from runpod_flash.cli.failures import unknown
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import Column, json_option

if TYPE_CHECKING:
    from runpod_flash.wire.volume_files import Item
    from runpod_flash.wire.volumes import Volume

_GB: Final = 1_000_000_000

VOLUMES = (
    Column("VOLUME", lambda row: row["name"]),
    Column("FILES", lambda row: str(row["files"]), right=True),
    Column("TAKES", lambda row: views.size(row["bytes"]), right=True),
    Column("SIZE", lambda row: views.size(row["size_gb"] * _GB) if row["size_gb"] else "", right=True),
    Column("IN USE", lambda row: "yes" if row["in_use"] else ""),
    Column("MADE", lambda row: views.when(row["made_at_ms"])),
)
ENTRIES = (
    Column("NAME", lambda row: row["name"] + ("/" if row["kind"] == "folder" else "")),
    Column("TAKES", lambda row: views.size(row["bytes"]) if row["kind"] == "file" else "", right=True),
    Column("CHANGED", lambda row: views.when(row["changed_at_ms"])),
)


@click.group(cls=Family)
def volume() -> None:
    """Make, fill, read and remove volumes."""


@volume.command(epilog=examples("flash volume create models", "flash volume create models --size 50"))
@click.argument("name", metavar="VOLUME")
@click.option("--size", type=click.IntRange(1), metavar="GB", help="What it is meant to take. Recorded, no quota.")
@json_option
def create(name: str, size: int | None, as_json: bool) -> None:
    """Make a volume. One that is there stays as it is."""
    with _told():
        found = _volume(name)
        new = found.ensure(size)
    if as_json:
        views.show_json({"name": name, "created": new, "path": str(found.files)})
        return
    click.echo(name)
    if not new:
        views.note("it was there already")


@volume.command(
    epilog=examples("flash volume ls", "flash volume ls models", "flash volume ls models checkpoints/latest --json")
)
@click.argument("name", metavar="[VOLUME]", required=False)
@click.argument("path", required=False, default="")
@json_option
def ls(name: str | None, path: str, as_json: bool) -> None:
    """List volumes, or what is in one: how many files, what they take, and whether workers use it.

    SIZE is what was said of it, and a volume that takes more is named on stderr.
    """
    rows = _volumes() if name is None else _entries(name, path)
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(VOLUMES if name is None else ENTRIES, rows)
    else:
        views.note("no volumes yet: flash volume create NAME" if name is None else "nothing is there")
    for row in rows if name is None else ():
        if row["size_gb"] and row["bytes"] > row["size_gb"] * _GB:
            views.note(f"volume {row['name']!r} takes {views.size(row['bytes'])}, more than its {row['size_gb']} GB")


@volume.command(
    codes={1: "it could not be copied"},
    see=("volume get", "volume ls"),
    epilog=examples(
        "flash volume put models weights.bin            to the same name",
        "flash volume put models ./checkpoints runs/    a folder with all in it, as runs/checkpoints",
        "flash volume put models weights.bin old/w1",
    ),
)
@click.argument("name", metavar="VOLUME")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("path", required=False, default="")
@json_option
def put(name: str, source: Path, path: str, as_json: bool) -> None:
    """Copy a file or a folder into a volume.

    PATH is the name it gets; one that ends in / or is a folder in the volume is the folder it gets into. A file appears
    when it is complete, in the place of one of its name.
    """
    with _told(), _held(name) as found:
        from runpod_flash.wire import volume_files

        if not source.exists():
            raise click.UsageError(f"There is no {source} to copy.")
        source = source.absolute()
        target = volume_files.inside(found.files, path)
        if not path or path.endswith("/") or target.is_dir():
            target = volume_files.inside(found.files, f"{path}/{source.name}".lstrip("/"))
        items = volume_files.plan(source)
        _copy(items, target)
    _report(items, f"{name}:{target.relative_to(found.files)}", as_json)


@volume.command(
    codes={1: "it could not be copied"},
    see=("volume put", "volume ls"),
    epilog=examples("flash volume get models weights.bin", "flash volume get models runs/checkpoints ./here/"),
)
@click.argument("name", metavar="VOLUME")
@click.argument("path")
@click.argument("target", type=click.Path(path_type=Path), required=False, default=".")
@json_option
def get(name: str, path: str, target: Path, as_json: bool) -> None:
    """Copy a file or a folder out of a volume.

    TARGET is the name it gets, or an existing folder it gets into; not given: the current folder.
    """
    into = os.fspath(target).endswith(os.sep) or target.is_dir()
    with _told(), _held(name) as found:
        from runpod_flash.wire import volume_files

        source = _there(found, path)
        target = target.absolute() / (source.name if source != found.files else name) if into else target.absolute()
        items = volume_files.plan(source)
        _copy(items, target)
    _report(items, str(target), as_json)


@volume.command(
    codes={1: "it is in use, or the question was answered with no", 3: "there is none of that name"},
    see=("volume ls", "ps"),
    epilog=examples("flash volume rm models old/w1", "flash volume rm models --yes    the volume with all in it"),
)
@click.argument("name", metavar="VOLUME")
@click.argument("path", required=False, default="")
@click.option("--force", is_flag=True, help="Also a volume that workers use: they keep what they have open.")
@consent.yes_option
@json_option
def rm(name: str, path: str, force: bool, yes: bool, as_json: bool) -> None:
    """Remove a volume, or a file or folder in it. Nothing brings it back.

    A volume that workers use is refused. Asks before a whole volume is removed; where nobody can be asked, --yes has to
    be given.
    """
    with _told():
        found = _volume(name)
        _check_there(found)
        if path:
            _remove(_there(found, path, follow=False))
        else:
            if not force and found.in_use:
                raise _in_use(name)
            use = found.use()
            words = f"{views.count(use.files, 'file')} ({views.size(use.size)})"
            consent.to_take_away(f"remove the volume {found.name!r} with {words}", yes=yes)
            found.remove(force=force)
    if as_json:
        views.show_json({"removed": f"{name}:{path}" if path else name})
    else:
        click.echo(f"{name}:{path}" if path else name)


# ── inside ────────────────────────────────────────────────────────────────────────────────────────


def _volume(name: str) -> Volume:
    from runpod_flash.settings import load
    from runpod_flash.wire.volumes import Volume

    return Volume(load().home, name)


def _check_there(found: Volume) -> None:
    from runpod_flash.settings import load
    from runpod_flash.wire.volumes import volumes

    if not found.exists:
        known = [one.name for one in volumes(load().home)]
        what, fix = f"there is no volume {found.name!r}", "see which there are: flash volume ls"
        raise unknown(what, found.name, known, fix=fix, nothing="none was made in this FLASH_HOME")


@contextlib.contextmanager
def _held(name: str) -> Iterator[Volume]:
    """A volume that is there, and stays while this lasts."""
    found = _volume(name)
    _check_there(found)
    held = found.hold()
    try:
        yield found
    finally:
        os.close(held)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What a disk or a path refuses, in words."""
    from runpod_flash.errors import FlashError, UsageError
    from runpod_flash.wire.volumes import VolumeInUse

    try:
        yield
    except ValueError as error:
        if isinstance(error, FlashError):
            raise
        misnamed = "the name of a volume" in str(error)
        fix = "see which there are: flash volume ls" if misnamed else "see what is in it: flash volume ls VOLUME"
        raise UsageError(str(error), fix=fix) from None
    except VolumeInUse as error:
        raise FlashError(str(error), fix="see who has it: flash ps") from None
    except OSError as error:
        raise FlashError(
            f"{error.filename or 'the volume'}: {error.strerror}", fix="see the disk of the data folder: flash doctor"
        ) from None


def _in_use(name: str) -> Exception:
    from runpod_flash.errors import FlashError

    return FlashError(
        f"the volume {name!r} is in use",
        why="workers have it mounted, or a command copies files",
        fix="see who it is: flash ps; wait until they end, or add --force",
    )


def _there(found: Volume, path: str, *, follow: bool = True) -> Path:
    from runpod_flash.errors import UsageError
    from runpod_flash.wire.volume_files import inside

    place = inside(found.files, path)
    if not place.exists() and not (not follow and place.is_symlink()):
        raise UsageError(
            f"there is no {path!r} in the volume {found.name!r}", fix=f"see what is: flash volume ls {found.name}"
        )
    return place


def _volumes() -> list[dict[str, Any]]:
    from runpod_flash.settings import load
    from runpod_flash.wire.volumes import volumes

    rows = []
    for one in volumes(load().home):
        use, facts = one.use(), one.facts()
        told = {"size_gb": facts.get("size_gb"), "in_use": one.in_use, "made_at_ms": facts.get("made_at_ms")}
        rows.append({"name": one.name, "files": use.files, "bytes": use.size, **told, "path": str(one.files)})
    return rows


def _entries(name: str, path: str) -> list[dict[str, Any]]:
    with _told(), _held(name) as found:
        place = _there(found, path)
        entries = sorted(os.scandir(place), key=lambda one: one.name) if place.is_dir() else [place]
        return [_entry(each) for each in entries]


def _entry(each: os.DirEntry[str] | Path) -> dict[str, Any]:
    is_link = each.is_symlink()
    facts = os.lstat(each)
    kind = "link" if is_link else "folder" if each.is_dir() else "file"
    return {"name": each.name, "kind": kind, "bytes": facts.st_size, "changed_at_ms": facts.st_mtime_ns // 1_000_000}


def _copy(items: list[Item], target: Path) -> None:
    from runpod_flash.wire import volume_files

    with _progress(sum(item.size for item in items)) as wrote:
        volume_files.copy(items, target, wrote)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for a person; nothing for a program."""
    if not sys.stderr.isatty():
        yield lambda _number: None
        return
    with click.progressbar(length=max(1, total), file=sys.stderr, show_pos=False) as shown:
        yield shown.update


def _report(items: list[Item], place: str, as_json: bool) -> None:
    files, size = sum(item.kind == "file" for item in items), sum(item.size for item in items)
    if as_json:
        views.show_json({"path": place, "files": files, "bytes": size})
        return
    click.echo(place)
    views.note(f"{views.count(files, 'file')}, {views.size(size)}")


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()
