"""`flash jobs`, `flash job`, `flash cancel`, `flash retry`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import completing, story, views
from runpod_flash.cli.failures import exit_code, tell
from runpod_flash.cli.filters import STATUSES, Moment, Status, named, refuse_unknown
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import Column, json_option
from runpod_flash.errors import FlashError

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection

MOST = 1_000_000
"""Jobs in one listing: more than a queue may hold, so that a larger number is a slip of the keyboard."""

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
    cls=Page,
    codes={3: "there is no endpoint, function, app or environment of that name"},
    see=("job", "logs", "cancel", "retry", "purge"),
    epilog=examples(
        "flash jobs",
        "flash jobs --failed --since 1h",
        "flash jobs --running --endpoint trainer",
        "flash jobs --status FAILED,TIMED_OUT --since 2026-11-20T10:00 --until 2026-11-20T12:00",
        "flash jobs --before 4e1f8a20        the ones before that job: the next page",
        "flash jobs --parent 4e1f8a20        those that this job called from inside of its worker",
        "flash jobs --function train --json | jq -r '.[].job'",
        "flash jobs --status IN_QUEUE --json | jq -r '.[].job' | xargs flash cancel",
    ),
)
@click.option(
    "--status",
    type=Status(),
    multiple=True,
    metavar="STATUS",
    help=f"Only jobs in this status, or in one of several: {', '.join(STATUSES)}.",
)
@click.option("--failed", is_flag=True, help="Short for --status FAILED,TIMED_OUT.")
@click.option("--running", is_flag=True, help="Short for --status IN_PROGRESS.")
@named("endpoint", "function", "app", "env")
@click.option("--since", type=Moment(), metavar="TIME", help="Only those made since then: 1h (ago), 2026-11-20T10:00.")
@click.option("--until", type=Moment(), metavar="TIME", help="Only those made until then.")
@click.option("--parent", metavar="JOB", shell_complete=completing.jobs(), help="Only those that this job called.")
@click.option("--before", metavar="JOB", shell_complete=completing.jobs(), help="Only those made before that job.")
@click.option("--limit", type=click.IntRange(1, MOST), metavar="N", default=50, help="At most so many.  [default: 50]")
@json_option
def jobs(
    status: tuple[tuple[str, ...], ...], failed: bool, running: bool, limit: int, as_json: bool, **named: Any
) -> None:
    """List jobs, the newest first.

    Everything that is given narrows the list; several statuses widen it.
    """
    from runpod_flash.cli.connection import connect

    statuses = {one for each in status for one in each}
    statuses |= {"FAILED", "TIMED_OUT"} if failed else set()
    statuses |= {"IN_PROGRESS"} if running else set()
    wanted = _filter(statuses, named)
    with connect() as engine:
        rows, more = engine.some("jobs", wanted, limit + 1)
        if not rows:
            refuse_unknown(engine, wanted)
    shown = rows[:limit]
    if as_json:
        views.show_json(shown)
    elif shown:
        views.show_table(COLUMNS, shown)
    else:
        views.note("no such jobs" if wanted else "no jobs yet")
    if more or len(rows) > limit:
        views.note(f"… and older ones: add --before {views.job_id(shown[-1]['job'])}, or --limit {limit * 10}")


def _filter(statuses: set[str], named: Mapping[str, Any]) -> dict[str, Any]:
    """In the engine's words, and without what was not said."""
    words = {"function": "fn", "since": "since_ms", "until": "until_ms"}
    wanted = {words.get(name, name): value for name, value in named.items() if value is not None}
    return {"status": sorted(statuses), **wanted} if statuses else wanted


@click.command(
    cls=Page,
    codes={3: "there is no such job"},
    see=("jobs", "logs", "retry"),
    epilog=examples(
        "flash job 4e1f8a20                  a part of the id is enough, from its start or its end",
        "flash job 4e1f8a20 --json | jq .timing",
    ),
)
@click.argument("job", metavar="JOB", shell_complete=completing.jobs())
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
    cls=Page,
    codes={1: "a job had ended already", 3: "there is no such job"},
    see=("jobs", "purge", "retry"),
    epilog=examples(
        "flash cancel 4e1f8a20",
        "flash cancel 4e1f8a20 77b09c1d --json",
    ),
)
@click.argument(
    "jobs",
    metavar="JOB...",
    nargs=-1,
    required=True,
    shell_complete=completing.jobs(("IN_QUEUE", "IN_PROGRESS")),
)
@json_option
def cancel(jobs: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs that wait or run.

    Prints the id of each job that was cancelled. A running coroutine is cancelled and has five seconds to
    clean up; a running plain function is stopped with its worker. To drop all that waits for an endpoint
    there is flash purge.
    """
    from runpod_flash.wire import messages

    _each(jobs, lambda job: messages.Cancel(job=job, cause="flash cancel"), "cancelled", as_json)


@click.command(
    cls=Page,
    codes={1: "a job did not fail, so it cannot be tried again", 3: "there is no such job"},
    see=("jobs", "job", "cancel"),
    epilog=examples(
        "flash retry 4e1f8a20",
        "flash jobs --failed --json | jq -r '.[].job' | xargs flash retry",
    ),
)
@click.argument(
    "jobs",
    metavar="JOB...",
    nargs=-1,
    required=True,
    shell_complete=completing.jobs(("FAILED", "TIMED_OUT")),
)
@json_option
def retry(jobs: tuple[str, ...], as_json: bool) -> None:
    """Run jobs once more that failed or timed out, under their own ids.

    Prints the id of each job that is in the queue again. Who cancelled a job did not want it, and one that
    completed has its result; neither can be tried again.
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
