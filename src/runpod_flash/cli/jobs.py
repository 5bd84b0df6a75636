"""`flash jobs`, `flash job`, `flash cancel`, `flash retry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import story, views
from runpod_flash.cli.failures import exit_code, tell
from runpod_flash.cli.views import Column, examples, json_option
from runpod_flash.errors import FlashError

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection

STATUSES = ("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")

COLUMNS = (
    Column("JOB", lambda row: views.job_id(row["job"])),
    Column("STATUS", lambda row: row["status"]),
    Column("FUNCTION", lambda row: row["fn"], flexible=True),
    Column("ENDPOINT", lambda row: row["endpoint"]),
    Column("TRIES", lambda row: str(row["attempts"]), right=True),
    Column("CREATED", lambda row: views.when(row["created_at_ms"])),
    Column("TOOK", views.took, right=True),
    Column("ERROR", lambda row: row.get("error") or "", flexible=True),
)


@click.command(
    epilog=examples(
        "flash jobs",
        "flash jobs --status FAILED --limit 5",
        "flash jobs --function train --json | jq -r '.[].job'",
        "flash jobs --status IN_QUEUE --json | jq -r '.[].job' | xargs flash cancel",
    )
)
@click.option(
    "--status",
    type=click.Choice(STATUSES, case_sensitive=False),
    metavar="STATUS",
    help=f"Only jobs in this status: {', '.join(STATUSES)}.",
)
@click.option("--endpoint", metavar="NAME", help="Only jobs of this endpoint.")
@click.option("--function", metavar="NAME", help="Only calls of this function.")
@click.option("--app", metavar="NAME", help="Only jobs of this app.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@json_option
def jobs(
    status: str | None, endpoint: str | None, function: str | None, app: str | None, limit: int, as_json: bool
) -> None:
    """List jobs, the newest first."""
    from runpod_flash.cli.connection import connect

    filters = {"status": status, "endpoint": endpoint, "fn": function, "app": app}
    wanted = {name: value for name, value in filters.items() if value is not None}
    with connect() as engine:
        rows, more = engine.some("jobs", wanted, limit)
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(COLUMNS, rows)
    else:
        views.note("no such jobs" if wanted else "no jobs yet")
    if more:
        views.note(f"… and older ones: flash jobs --limit {limit * 10}")


@click.command(
    epilog=examples(
        "flash job 4e1f8a20                  a part of the id is enough, from its start or its end",
        "flash job 4e1f8a20 --json | jq .timing",
    )
)
@click.argument("job", metavar="JOB")
@json_option
def job(job: str, as_json: bool) -> None:
    """Show one job: its attempts, where the time went, and its error.

    JOB is an id or, from four characters on, the start or the end of one.
    """
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        found = engine.job(job)
    if as_json:
        views.show_json(found)
    else:
        story.show(found)


@click.command(
    epilog=examples(
        "flash cancel 4e1f8a20",
        "flash cancel 4e1f8a20 77b09c1d --json",
    )
)
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
@json_option
def cancel(jobs: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs that wait or run.

    Prints the id of each job that was cancelled. A running coroutine is cancelled and has five seconds to
    clean up; a running plain function is stopped with its worker.
    """
    from runpod_flash.wire import messages

    _each(jobs, lambda job: messages.Cancel(job=job, cause="flash cancel"), "cancelled", as_json)


@click.command(
    epilog=examples(
        "flash retry 4e1f8a20",
        "flash jobs --status FAILED --json | jq -r '.[].job' | xargs flash retry",
    )
)
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
@json_option
def retry(jobs: tuple[str, ...], as_json: bool) -> None:
    """Run jobs once more that failed or timed out, under their own ids.

    Prints the id of each job that is in the queue again.
    """
    from runpod_flash.wire import messages

    _each(jobs, lambda job: messages.Retry(job=job), "queued", as_json)


def _each(jobs: Sequence[str], request: Callable[[str], Any], done: str, as_json: bool) -> None:
    """Asks the same of each job. One that refuses does not stop the others, but decides the exit code."""
    from runpod_flash.cli.connection import LinkLost, connect

    results: list[dict[str, Any]] = []
    worst = 0
    with connect() as engine:
        for job in jobs:
            try:
                found = _ask(engine, job, request)
            except LinkLost:
                raise
            except FlashError as error:
                tell(error)
                worst = worst or exit_code(error)
                results.append({"job": job, "ok": False, "result": "", "error": error.what, "code": error.code})
            else:
                results.append({"job": found, "ok": True, "result": done, "error": "", "code": ""})
                if not as_json:
                    click.echo(found)
    if as_json:
        views.show_json(results)
    click.get_current_context().exit(worst)


def _ask(engine: Connection, job: str, request: Callable[[str], Any]) -> str:
    found: str = engine.job(job)["job"]
    engine.ask(request(found))
    return found
