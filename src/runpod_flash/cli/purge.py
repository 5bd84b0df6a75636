"""`flash purge`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from runpod_flash.cli import consent, views
from runpod_flash.cli.filters import Span, named, refuse_unknown
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

_SHOWN_FUNCTIONS = 5


@click.command(
    cls=Page,
    codes={
        1: "the question was answered with no",
        3: "there is no endpoint, function, app or environment of that name",
    },
    see=("cancel", "jobs", "deps prune"),
    epilog=examples(
        "flash purge --endpoint trainer --dry-run",
        "flash purge --endpoint trainer --function train",
        "flash purge --ended --older-than 1d --yes",
        "flash purge --ended --endpoint trainer --yes --json",
    ),
)
@click.option("--ended", is_flag=True, help="Forget jobs that have ended, their results and their output's place.")
@click.option("--older-than", type=Span(), metavar="TIME", help="With --ended: those that ended so long ago, as 1d.")
@named("endpoint", "function", "app", "env")
@click.option("--dry-run", is_flag=True, help="Say what would be purged, and leave it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(ended: bool, older_than: int | None, dry_run: bool, yes: bool, as_json: bool, **names: str | None) -> None:
    """Drop the jobs that wait for an endpoint, or forget jobs that have ended.

    Without --ended, the jobs of an endpoint that wait are cancelled: they stay on record as CANCELLED, whoever
    waits for them is told, and what runs already runs on. With --ended, jobs that completed, failed, timed out
    or were cancelled are removed with their results; nothing brings them back.

    Says first how many jobs that are, and asks. Where nobody can be asked, --yes has to be given.
    """
    wanted = _wanted(ended, older_than, names)
    from runpod_flash.cli.connection import connect
    from runpod_flash.wire import messages

    with connect() as engine:
        told = engine.ask(messages.Admin(verb="purge", args={**wanted, "dry": True}), timeout=None).data
        if not told["jobs"]:
            refuse_unknown(engine, wanted)
        elif not dry_run:
            consent.to_take_away(_words(told, ended=ended), yes=yes)
            told = engine.ask(messages.Admin(verb="purge", args=wanted), timeout=None).data
    _report(told, ended=ended, as_json=as_json)


def _wanted(ended: bool, older_than: int | None, names: Mapping[str, str | None]) -> dict[str, Any]:
    if not ended and older_than is not None:
        raise click.UsageError("--older-than is for jobs that have ended: add --ended.")
    if not ended and not names["endpoint"]:
        raise click.UsageError(
            "Say what to purge: --endpoint NAME for the jobs that wait for it, or --ended for records of the past."
        )
    words = {"function": "fn"}
    wanted: dict[str, Any] = {words.get(name, name): value for name, value in names.items() if value is not None}
    return {**wanted, "ended": ended, "older_than_ms": older_than or 0}


def _words(told: Mapping[str, Any], *, ended: bool) -> str:
    """`cancel 12 waiting jobs (train 10, infer 2)`."""
    number = told["jobs"]
    named = [f"{name.rpartition(':')[2]} {count}" for name, count in told["by_function"].items()]
    if len(named) > _SHOWN_FUNCTIONS:
        named = [*named[:_SHOWN_FUNCTIONS], f"and {len(named) - _SHOWN_FUNCTIONS} more functions"]
    if not ended:
        return f"cancel {number} waiting job{'' if number == 1 else 's'} ({', '.join(named)})"
    statuses = ", ".join(f"{count} {status}" for status, count in told["by_status"].items())
    return f"forget {views.count(number, 'job')} with results ({statuses}: {', '.join(named)})"


def _report(told: Mapping[str, Any], *, ended: bool, as_json: bool) -> None:
    if as_json:
        views.show_json({**told, "what": "ended" if ended else "waiting"})
    elif not told["jobs"]:
        views.note("nothing to purge")
    elif told["dry_run"]:
        views.note(f"would {_words(told, ended=ended)}")
    else:
        click.echo(f"{'forgot' if ended else 'cancelled'} {views.count(told['jobs'], 'job')}")
