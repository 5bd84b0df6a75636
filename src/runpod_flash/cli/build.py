"""`flash build`: the artifact and the manifest of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import place, views
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.apps.artifact import FileFacts
    from runpod_flash.apps.build import Built, Options

LARGEST = 5
"""Files that the report names."""


def build_options(verb: Any) -> Any:
    """What builds, and deploys, can be told."""
    for option in (
        click.option("--no-deps", is_flag=True,
                     help="Without what the project requires: workers get what functions declare."),
        click.option("--exclude", multiple=True, metavar="WHAT",
                     help="Files, as in .gitignore, or packages that it requires; several with commas."),
    ):  # fmt: skip
        verb = option(verb)
    return verb


@click.command(
    cls=Page,
    codes={1: "a module cannot be imported, or a file read", 2: "two functions on one route, or wrong usage"},
    see=("deploy", "run"),
    epilog=examples(
        "flash build                            .flash/artifact.tar.gz and flash_manifest.json",
        "flash build --exclude 'data/*.csv'     without these files",
        "flash build --output dist/app.tar.gz",
        "flash build --json | jq '.functions[].name'",
    ),
)
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@build_options
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the archive goes.")
@json_option
def build(folder: Path, exclude: tuple[str, ...], no_deps: bool, output: Path | None, as_json: bool) -> None:
    """Pack a project into an artifact, with a manifest of all that it declares.

    Files that .gitignore or .flashignore name are left out, and .env always. The same files give the same bytes. The
    project is imported once, to see what it declares; what cannot be deployed is told, with file and line.
    """
    from runpod_flash.apps.build import Options, build

    where = place.find(None, None, folder)
    _settle(where.root)
    built = build(where.root, Options(where.app, where.env, exclude, output and output.absolute(), not no_deps))
    if as_json:
        views.show_json(facts(built))
        return
    click.echo(_shown(built.archive.path))
    report(built)


def build_for(where: place.Place, exclude: tuple[str, ...], no_deps: bool) -> Built:
    """What a deploy builds."""
    from runpod_flash.apps.build import Options, build

    _settle(where.root)
    options: Options = Options(where.app, where.env, exclude, None, not no_deps)
    return build(where.root, options)


def facts(built: Built) -> dict[str, Any]:
    """What a program is told: the manifest without its files, and the archive."""
    manifest = {key: value for key, value in built.manifest.items() if key != "files"}
    archive = {"path": str(built.archive.path), "bytes": built.archive.bytes, "sha256": built.archive.sha256}
    sizes = {"files": len(built.files), "file_bytes": sum(one.bytes for one in built.files)}
    return {**manifest, "archive": archive, **sizes, "manifest": str(built.root / "flash_manifest.json")}


def report(built: Built) -> None:
    """What went in, and what is large."""
    manifest = built.manifest
    counts = [views.count(len(manifest[what]), what[:-1]) for what in ("functions", "resources", "routes")]
    total = sum(one.bytes for one in built.files)
    packed = views.size(built.archive.bytes)
    views.note(f"{views.count(len(built.files), 'file')}, {views.size(total)}, packed {packed}: {', '.join(counts)}")
    for one in _large(built.files, total):
        views.note(f"  {views.size(one.bytes):>9}  {one.path}")


def _large(files: tuple[FileFacts, ...], total: int) -> list[FileFacts]:
    """The files that make an artifact large, where it is."""
    if total < 1 << 20:
        return []
    return sorted(files, key=lambda one: -one.bytes)[:LARGEST]


def _settle(root: Path) -> None:
    from runpod_flash.client import environment

    environment.stand_in_for(root)
    environment.load_dotenv()


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
