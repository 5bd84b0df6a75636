"""`flash logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.views import examples, json_option

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection
    from runpod_flash.wire.messages import Log


@click.command(
    epilog=examples(
        "flash logs 4e1f8a20",
        "flash logs 4e1f8a20 -f              until the job has ended; Ctrl-C stops looking, not the job",
        "flash logs 4e1f8a20 --attempt 2 -t",
        "flash logs 4e1f8a20 --json | jq -r 'select(.fd == 2).line'",
    )
)
@click.argument("job", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Show new lines as they come, until the job has ended.")
@click.option("--attempt", type=click.IntRange(min=1), help="Only what this attempt printed.")
@click.option("-t", "--timestamps", is_flag=True, help="Put the time before each line.")
@json_option
def logs(job: str, follow: bool, attempt: int | None, timestamps: bool, as_json: bool) -> None:
    """Show what a job printed.

    Every attempt in turn, both of its output streams, all on stdout.
    JOB is an id or, from four characters on, the start or the end of one.
    """
    printer = _Printer(attempt, timestamps, as_json)
    if follow:
        _follow(job, printer)
    else:
        _read(job, printer)


class _Printer:
    """Prints lines, and says on stderr where another attempt begins."""

    def __init__(self, attempt: int | None, timestamps: bool, as_json: bool) -> None:
        self._only = attempt
        self._timestamps = timestamps
        self._as_json = as_json
        self._last = 0
        self.printed = 0

    def show(self, line: dict[str, Any]) -> None:
        """One line of the wanted attempt."""
        if self._only not in (None, line["attempt"]):
            return
        if line["attempt"] != self._last and (self._last or line["attempt"] > 1):
            views.note(f"── attempt {line['attempt']}, worker {line['worker']} ──")
        self._last = line["attempt"]
        self.printed += 1
        if self._as_json:
            views.show_json(line, line=True)
        else:
            click.echo(f"{_time(line['at_ms'])} {line['line']}" if self._timestamps else line["line"])


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
        where = {"at_ms": log.at_ms, "attempt": log.attempt, "fd": log.fd, "worker": log.worker}
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
