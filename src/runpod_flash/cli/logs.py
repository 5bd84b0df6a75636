"""`flash logs`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import completing, views
from runpod_flash.cli.filters import Moment, named, refuse_unknown
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection
    from runpod_flash.wire.messages import Log

WHOLE_ID = 36
_LOOK_S = 0.5
"""How often somebody who follows an endpoint asks whether there is more."""


@click.command(
    cls=Page,
    codes={3: "there is no such job, or no endpoint of that name"},
    see=("job", "jobs", "ps"),
    epilog=examples(
        "flash logs 4e1f8a20",
        "flash logs 4e1f8a20 -f              until the job has ended; Ctrl-C stops looking, not the job",
        "flash logs 4e1f8a20 --attempt 2 -t",
        "flash logs --endpoint trainer --since 1h",
        "flash logs --endpoint trainer -f    what all its jobs print from now on",
        "flash logs 4e1f8a20 --json | jq -r 'select(.fd == 2).line'",
    ),
)
@click.argument("job", metavar="[JOB]", required=False, shell_complete=completing.jobs())
@named("endpoint", "app", "env")
@click.option("--since", type=Moment(), metavar="TIME", help="Only what was printed since: 1h (ago), 2026-11-20T10:00.")
@click.option("-f", "--follow", is_flag=True, help="Show new lines as they come: of a job until it has ended.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Only what this attempt of the job printed.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@json_option
def logs(
    job: str | None,
    follow: bool,
    attempt: int | None,
    since: int | None,
    timestamps: bool,
    as_json: bool,
    **names: str | None,
) -> None:
    """Show what a job printed, or all jobs of an endpoint.

    Of a job every attempt in turn, both of its output streams, all on stdout.
    JOB is an id or, from four characters on, the start or the end of one.

    Of an endpoint the lines of all its workers in the order of time, each behind the id of its job. With -f and
    without --since, only what comes from now on.
    """
    printer = _Printer(attempt, since, timestamps, as_json)
    if job is not None and names["endpoint"] is None:
        _follow(job, printer) if follow else _read(job, printer)
    elif job is None and names["endpoint"] is not None and attempt is None:
        now = round(time.time() * 1000)
        wanted = {**_given(names), "since_ms": since if since is not None else now if follow else 0}
        _show_endpoint(wanted, printer, follow=follow)
    else:
        raise click.UsageError("Name one JOB, or with --endpoint all jobs of an endpoint; --attempt is about one job.")


def _given(names: Mapping[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if value is not None}


def _show_endpoint(wanted: dict[str, Any], printer: _Printer, *, follow: bool) -> None:
    """Page by page; who follows asks for the next page again and again, of whichever engine runs by then."""
    from runpod_flash.cli.connection import LinkLost, connect

    printer.names_jobs = True
    cursor = ""
    while True:
        try:
            with connect() as engine:
                refuse_unknown(engine, wanted)
                while True:
                    page = engine.page("logs", {**wanted, "follow": follow}, cursor)
                    cursor = page.next
                    for row in page.rows:
                        printer.show(row)
                    if not cursor:
                        break
                    if not page.rows:
                        printer.tell_silence(wanted["endpoint"])
                        time.sleep(_LOOK_S)
            break
        except LinkLost:
            if not follow:
                raise
            views.note("the engine went away; looking for the next one")
    if not printer.printed:
        views.note(f"endpoint {wanted['endpoint']} has printed nothing in that time")


class _Printer:
    """Prints lines, and says on stderr where another attempt begins."""

    def __init__(self, attempt: int | None, since_ms: int | None, timestamps: bool, as_json: bool) -> None:
        self._attempt = attempt
        self._since_ms = since_ms or 0
        self._timestamps = timestamps
        self._as_json = as_json
        self._last = 0
        self.names_jobs = False
        """Whether the lines are of many jobs, and each says of which."""
        self.printed = 0
        self._waits = False

    def show(self, line: dict[str, Any]) -> None:
        """One line, if it is wanted."""
        if self._attempt not in (None, line["attempt"]) or line["at_ms"] < self._since_ms:
            return
        if not self.names_jobs:
            self._tell_attempt(line)
        self.printed += 1
        if self._as_json:
            views.show_json(line, line=True)
            return
        stamp = f"{_time(line['at_ms'])} " if self._timestamps else ""
        click.echo(f"{stamp}{self._whose(line)}{line['line']}")

    def tell_silence(self, endpoint: str) -> None:
        """Says once what is waited for, unless lines have come already."""
        if not self.printed and not self._waits:
            past = "" if self._since_ms else " from now on (--since 1h: also before)"
            views.note(f"waiting for what jobs of {endpoint} print{past}; Ctrl-C stops")
        self._waits = True

    def _whose(self, line: dict[str, Any]) -> str:
        if not self.names_jobs:
            return ""
        width = views.SHORT_ID if views.on_terminal() else WHOLE_ID
        return f"{(views.job_id(line['job']) or views.NOTHING).ljust(width)}  "

    def _tell_attempt(self, line: dict[str, Any]) -> None:
        if line["attempt"] != self._last and (self._last or line["attempt"] > 1):
            views.note(f"── attempt {line['attempt']}, worker {line['worker']} ──")
        self._last = line["attempt"]


def _read(job: str, printer: _Printer) -> None:
    from runpod_flash.cli.connection import connect

    with connect() as engine:
        found = engine.job(job)
        for row in engine.all("logs", {"job": found["job"]}):
            printer.show(row)
    if not printer.printed:
        views.note(f"job {found['job']} ({found['status']}) has printed nothing")


def _follow(job: str, printer: _Printer) -> None:
    """Every line once, also when the engine goes away in between and another takes over."""
    from runpod_flash.cli.connection import LinkLost, connect

    seen = _Seen()
    while True:
        try:
            with connect() as engine:
                job = engine.job(job)["job"]
                _follow_on(engine, job, printer, seen)
            return
        except LinkLost:
            views.note("the engine went away; looking for the next one")


def _follow_on(engine: Connection, job: str, printer: _Printer, seen: _Seen) -> None:
    from runpod_flash.wire import messages

    # First the stream, then the past: a line that is printed in between comes by both and is shown once.
    stream = engine.follow(messages.Attach(job=job, wait=True, logs=True))
    _show_past(engine, job, printer, seen)
    for said in stream:
        if isinstance(said, messages.Log):
            if seen.is_behind(said):  # lines came while there was no engine to pass them on
                _show_past(engine, job, printer, seen)
            for line in seen.new(said):
                printer.show(line)
        elif isinstance(said, messages.State) and said.why:
            views.note(f"{said.status}: {said.why}")
        elif isinstance(said, messages.Outcome):
            _show_past(engine, job, printer, seen)  # the stream may have been cut before the last lines
            views.note(f"job {job}: {said.status}, {views.count(said.attempts, 'attempt')}")


def _show_past(engine: Connection, job: str, printer: _Printer, seen: _Seen) -> None:
    for line in seen.number(engine.all("logs", {"job": job})):
        printer.show(line)


class _Seen:
    """Which lines were shown: they are numbered from 0 within their attempt, and come in order."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def number(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What is new in a whole listing of the lines so far."""
        attempts: dict[int, int] = {}
        for row in rows:
            n = attempts[row["attempt"]] = attempts.get(row["attempt"], -1) + 1
            if self._is_new(row["attempt"], n):
                yield row

    def is_behind(self, log: Log) -> bool:
        """Whether there are lines before these that were not shown."""
        return log.n > self._next.get(log.attempt, 0)

    def new(self, log: Log) -> Iterator[dict[str, Any]]:
        """What is new in lines that just came."""
        where = {"job": log.job, "at_ms": log.at_ms, "attempt": log.attempt, "fd": log.fd, "worker": log.worker}
        for n, text in enumerate(log.lines, log.n):
            if self._is_new(log.attempt, n):
                yield {**where, "line": text}

    def _is_new(self, attempt: int, n: int) -> bool:
        new = n >= self._next.get(attempt, 0)
        if new:
            self._next[attempt] = n + 1
        return new


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).astimezone().strftime("%H:%M:%S.%f")[:-3]
