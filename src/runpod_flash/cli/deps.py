"""`flash deps`: the environments that functions run in, and the system packages these see."""

from __future__ import annotations

import click

from runpod_flash.cli import views
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import Column, json_option

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
    """List and remove the environments that functions run in."""


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
