"""`flash logs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.views import examples, json_option


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
        rows, _ = engine.rows("logs", {"job": found["job"]})
    for row in rows:
        printer.show(row)
    if not printer.printed:
        views.note(f"job {found['job']} ({found['status']}) has printed nothing")


def _follow(job: str, printer: _Printer) -> None:
    """Every line once, also when the engine goes away in between and another takes over."""
    from runpod_flash.cli.connection import LinkLost, connect
    from runpod_flash.wire import messages

    seen: dict[int, int] = {}
    while True:
        try:
            with connect() as engine:
                job = engine.job(job)["job"]
                for said in engine.follow(messages.Attach(job=job, wait=True, logs=True)):
                    if isinstance(said, messages.Log):
                        for line in _new_lines(said, seen):
                            printer.show(line)
                    elif isinstance(said, messages.State) and said.why:
                        views.note(f"{said.status}: {said.why}")
                    elif isinstance(said, messages.Outcome):
                        views.note(f"job {job}: {said.status}, {views.count(said.attempts, 'attempt')}")
            return
        except LinkLost:
            views.note("the engine went away; looking for the next one")


def _new_lines(log: Any, seen: dict[int, int]) -> Iterator[dict[str, Any]]:
    """The lines of a LOG that were not shown yet: their numbers within the attempt only grow."""
    for n, text in enumerate(log.lines, log.n):
        if n > seen.get(log.attempt, -1):
            seen[log.attempt] = n
            yield {
                "at_ms": log.at_ms,
                "attempt": log.attempt,
                "fd": log.fd,
                "worker": log.worker,
                "line": text,
            }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).astimezone().strftime("%H:%M:%S.%f")[:-3]
