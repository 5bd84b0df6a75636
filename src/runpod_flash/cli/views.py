"""How facts look: tables for people, JSON for programs, plain columns for pipes, and units that read well."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, TypeVar

import click

Row = Mapping[str, Any]
Verb = TypeVar("Verb", bound=Callable[..., Any])

NOTHING: Final = "-"
BAR_WIDTH: Final = 32
WIDE: Final = 110
VERY_WIDE: Final = 150
"""Columns of terminals on which tables may say more."""
_PROGRESS_SHOWN: Final = 200
SHORT_ID: Final = 8
"""Characters of a job's id that tables on a terminal show; they are the random ones, at its end."""

_STYLES = {
    "COMPLETED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "CANCELLED": "dim",
    "IN_PROGRESS": "cyan",
    "IN_QUEUE": "yellow",
}
_FULL, _MEDIUM = ("█", "▏"), ("#", "|")


class Column(NamedTuple):
    """A column of a table: its title, and how to read its cell from a row."""

    title: str
    cell: Callable[[Row], str]
    right: bool = False  # numbers
    flexible: bool = False  # words that may be cut where a terminal is narrow
    wide: int = 0  # left out on a terminal that has fewer columns
    pipe_only: bool = False  # a terminal shows it elsewhere


def json_option(verb: Verb) -> Verb:
    """The option that every command with facts has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON (shapes: docs/reference/cli.md).")(verb)


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def show_json(facts: object, *, line: bool = False) -> None:
    """One JSON document on stdout; with `line` on a single line, for streams of them."""
    text = json.dumps(facts, ensure_ascii=False, indent=None if line else 2)
    # A lone surrogate, such as of a command line that is no UTF-8, becomes an escape, which JSON has as well.
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def note(text: str) -> None:
    """Something for the person at the terminal, on stderr; stdout has facts only."""
    click.echo(text, err=True)


def show_table(columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """A table fitted to the terminal, or, in a pipe, columns of their full width that `awk` can cut."""
    if on_terminal():
        room = shutil.get_terminal_size().columns
        columns = [column for column in columns if not column.pipe_only and column.wide <= room]
    cells = [[clean(column.cell(row)) or NOTHING for column in columns] for row in rows]
    if on_terminal():
        _rich_table(columns, cells)
        return
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        padded = (_pad(cell, width, column.right) for cell, width, column in zip(line, widths, columns, strict=True))
        click.echo("  ".join(padded).rstrip())


def show_facts(facts: Mapping[str, str], width: int = 12) -> None:
    """Name and value, line by line; empty values are left out."""
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<{width}} {clean(value)}")


def heading(text: str) -> None:
    """The title of a part of a page."""
    click.echo(f"\n{click.style(text, bold=True) if coloured() else text}")


def coloured() -> bool:
    """Whether stdout takes colours: a terminal, and nobody said NO_COLOR."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def status_word(status: str) -> str:
    """A status, in its colour where there are colours."""
    style = _STYLES.get(status)
    if not coloured() or style is None:
        return status
    return click.style(status, dim=True) if style == "dim" else click.style(status, fg=style)


def bar(start: float, length: float, total: float) -> str:
    """A part of a whole, drawn where it lies; something that took any time is never invisible."""
    full, sliver = _FULL if _can_print(_FULL[0]) else _MEDIUM
    if total <= 0 or length <= 0:
        return ""
    before = min(round(start / total * BAR_WIDTH), BAR_WIDTH - 1)
    filled = min(round(length / total * BAR_WIDTH), BAR_WIDTH - before)
    return " " * before + (full * filled or sliver)


def clean(text: str) -> str:
    """The text on one line without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else _visible(char) for char in text.strip())


def progress(value: Any) -> str:
    """What a job says of its progress, in a line; "" if nothing."""
    if value is None:
        return ""
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:_PROGRESS_SHOWN]


def clean_line(text: str) -> str:
    """The same for a line whose blanks count: where it is indented, it stays so."""
    return "".join(char if char.isprintable() else _visible(char) for char in text)


# ── units ─────────────────────────────────────────────────────────────────────────────────────────


def job_id(job: str | None) -> str:
    """A job's id: whole for programs, its end for people; the commands take either."""
    return (job or "")[-SHORT_ID:] if on_terminal() else (job or "")


def count(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """About three digits of a duration: `412 µs`, `8.1 ms`, `3.2 s`, `2m 5s`, `3h 20m`, `2d 4h`."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs" if _can_print("µ") else f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else "1 s"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole} s"


def size(number: float | None) -> str:
    """Bytes: `812 B`, `4.1 kB`, `2.3 GB`."""
    if number is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def moment(at_ms: int) -> str:
    """A time of day in this machine's zone, with its date: `2026-03-01 14:05:09`."""
    return datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def when(at_ms: int | None) -> str:
    """A time in a list: how long ago for people, ISO 8601 in UTC for programs."""
    return ago(at_ms) if at_ms is not None and on_terminal() else exactly(at_ms)


def exactly(at_ms: int | None) -> str:
    """A time in a story: this machine's for people, ISO 8601 in UTC for programs."""
    if at_ms is None:
        return ""
    if on_terminal():
        return moment(at_ms)
    stamp = datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(at_ms: int) -> str:
    """`3m ago`, to the larger unit."""
    seconds = time.time() - at_ms / 1000
    return f"{duration(round(seconds)).split()[0]}{'s' if seconds < 59.5 else ''} ago" if seconds >= 1 else "now"


def took(row: Row) -> str:
    """How long a job has run, or ran; "" if it has not started."""
    if row.get("started_at_ms") is None:
        return ""
    end = row.get("ended_at_ms") or time.time() * 1000
    passed_ms = max(0.0, end - row["started_at_ms"])
    return duration(passed_ms / 1000) if passed_ms else "<1 ms"  # times are whole milliseconds


def _rich_table(columns: Sequence[Column], cells: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold" if coloured() else "", padding=(0, 2, 0, 0))
    for column in columns:
        # The table narrows the columns that might wrap; their texts are then cut, so that a row stays a line.
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=not column.flexible)
    for line in cells:
        table.add_row(
            *(
                Text(cell, _STYLES.get(cell, "") if coloured() else "", no_wrap=True, overflow="ellipsis")
                for cell in line
            )
        )
    Console(highlight=False).print(table)


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _visible(char: str) -> str:
    return " " if char in "\n\t\r" else char.encode("unicode_escape").decode("ascii")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
