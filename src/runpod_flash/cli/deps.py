"""`flash deps`: the environments that functions run in, the system packages these see, and what a gallery needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import Column, json_option

if TYPE_CHECKING:
    from runpod_flash.apps.consolidation.run import Consolidated

PRUNE_SECONDS = 300.0
"""Deleting gigabytes of small files takes a while."""

COLUMNS = (
    Column("ENVIRONMENT", lambda row: row["id"]),
    Column("KIND", lambda row: row["kind"]),
    Column("STATE", lambda row: row["state"]),
    Column("PYTHON", lambda row: row["python"]),
    Column("SIZE", lambda row: views.size(row["size"]), right=True),
    Column("USED", lambda row: views.when(row["used_at_ms"])),
    Column("REQUIREMENTS", lambda row: ", ".join(row["requirements"]), flexible=True),
)


@click.group(cls=Family)
def deps() -> None:
    """List and remove the environments that functions run in; resolve what a gallery needs."""


@deps.command(epilog=examples("flash deps ls", "flash deps ls --json | jq 'map(.size) | add'"))
@json_option
def ls(as_json: bool) -> None:
    """List environments: what is in them, how large they are, when they were last used."""
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        rows = list(engine.all("deps"))
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(COLUMNS, rows)
        views.note(f"{views.count(len(rows), 'environment')}, {views.size(sum(row['size'] for row in rows))}")
    else:
        views.note("no environments yet: the first call of a function makes one")


@deps.command(epilog=examples("flash deps prune", "flash deps prune --all"))
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also those that endpoints still name, unless a worker uses them.",
)
@json_option
def prune(everything: bool, as_json: bool) -> None:
    """Remove environments that no endpoint needs any more.

    Prints the name of each that was removed. The next call that needs one builds it again.
    """
    from runpod_flash.cli.connection import connect
    from runpod_flash.wire import messages

    request = messages.Admin(verb="prune_deps", args={"all": everything})
    with connect() as engine:
        done = engine.ask(request, PRUNE_SECONDS).data
    if as_json:
        views.show_json(done)
        return
    for name in done["removed"]:
        click.echo(name)
    views.note(f"{views.count(len(done['removed']), 'environment')} removed, {views.size(done['bytes'])} freed")


@deps.command(
    codes={1: "dependencies cannot be had together; with --check: what is written is stale"},
    epilog=examples(
        "flash deps consolidate                the gallery of this folder",
        "flash deps consolidate --check        is what is written still right? needs no network",
        "flash deps consolidate --upgrade      choose every version anew",
    ),
)
@click.argument("path", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Write nothing; say what is stale, and exit with 1 if it is.")
@click.option("--upgrade", is_flag=True, help="Choose every version anew, instead of keeping those that still fit.")
@json_option
def consolidate(path: Path, only_check: bool, upgrade: bool, as_json: bool) -> None:
    """Resolve what all examples of a gallery need, together.

    Reads the pyproject.toml of each example, writes the dependencies into that of the gallery, with its comments kept,
    and the versions into requirements.txt and uv.lock. Examples that cannot be had together are named. PATH is the
    gallery or a folder in it.
    """
    from runpod_flash.apps.consolidation import declared, run

    root = declared.find_root(path)
    done = run.check(root) if only_check else run.consolidate(root, upgrade=upgrade)
    if as_json:
        views.show_json(_consolidation_facts(done))
    else:
        _show_consolidation(done, only_check)
    sys.exit(FAILED if done.stale else 0)


def _consolidation_facts(done: Consolidated) -> dict[str, object]:
    return {
        "root": str(done.root),
        "examples": done.examples,
        "dependencies": [*done.dependencies],
        "added": [*done.added],
        "removed": [*done.removed],
        "written": [*done.written],
        "stale": [*done.stale],
    }


def _show_consolidation(done: Consolidated, only_check: bool) -> None:
    for sign, changed in (("-", done.removed), ("+", done.added)) if not only_check else ():
        for one in changed:
            click.echo(f"{sign} {one}")
    for reason in done.stale:
        click.echo(reason)
    what = f"{views.count(len(done.dependencies), 'package')} for {views.count(done.examples, 'example')}"
    if done.stale:
        views.note(f"stale: {what}\n  fix:   flash deps consolidate {done.root}")
    elif only_check or not done.written:
        views.note(f"up to date: {what}")
    else:
        views.note(f"{what}; written: {', '.join(done.written)}")
