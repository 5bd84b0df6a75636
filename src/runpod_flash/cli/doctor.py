"""`flash doctor`: what this machine can and cannot do, each with the mend.

What concerns this program and its engine is looked at here (`cli.checks`), the machine by a program of the host's
(`runpod_flash.host.doctor`), which may crash or hang on an odd one without taking this page with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import Column, json_option
from runpod_flash.wire.check import OK, PROBLEM, WARNING, Check

PROGRAM: Final = ("-m", "runpod_flash.host.doctor")
PROBE_SECONDS: Final = 75.0
"""How long one probe may take: the longest asks the package index."""

_COLOURS: Final = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
SETTINGS = (
    Column("SETTING", lambda row: row["name"]),
    Column("VALUE", lambda row: row["value"], flexible=True),
    Column("FROM", lambda row: row["source"], flexible=True),
)


@click.command(
    cls=Page,
    codes={1: "something is a problem"},
    see=("engine status", "engine verify", "check"),
    epilog=examples(
        "flash doctor",
        "flash doctor --online                         ask the package index as well",
        "flash doctor --json | jq '.checks[] | select(.level != \"ok\")'",
    ),
)
@click.option("--online", is_flag=True, help="Also ask the package index, over the network.")
@json_option
@click.pass_context
def doctor(context: click.Context, /, online: bool, as_json: bool) -> None:
    """Look at this machine, this installation, the engine and all settings. Exit code 1 if there is a problem.

    It starts no engine and changes nothing.
    """
    from runpod_flash.cli import checks

    seen: list[Check] = []
    home = checks.home()
    for check in (*checks.all_checks(), *_machine(home, online=online)):
        seen.append(check)
        if not as_json:
            _show(check)
    settings = checks.settings_rows()
    counts = {level: sum(check.level == level for check in seen) for level in _COLOURS}
    if as_json:
        found = [check._asdict() for check in seen]
        views.show_json({"ok": not counts[PROBLEM], "checks": found, "settings": settings})
    else:
        views.heading("Settings")
        views.show_table(SETTINGS, settings)
        views.note(_summary(counts))
    context.exit(FAILED if counts[PROBLEM] else 0)


def _show(check: Check) -> None:
    level = f"{check.level:<8}"
    level = click.style(level, fg=_COLOURS[check.level]) if views.coloured() else level
    click.echo(f"{level} {check.name:<15} {views.clean(check.what)}")
    for number, line in enumerate(check.fix.splitlines()):
        click.echo(f"{'':<24} {'fix: ' if not number else '     '}{views.clean(line)}")


def _summary(counts: dict[str, int]) -> str:
    if not counts[PROBLEM] and not counts[WARNING]:
        return "\nall is well"
    return f"\n{views.count(counts[PROBLEM], 'problem')}, {views.count(counts[WARNING], 'warning')}"


# ── the machine ───────────────────────────────────────────────────────────────────────────────────


def _machine(home: Path, *, online: bool) -> Iterator[Check]:
    """The probes of the host's program; after one that crashed or hung it is started again, for those that follow."""
    after, name = -1, "the machine"
    while True:
        number = after
        for answer in _answers(home, online=online, after=after):
            name = answer["name"]
            if "begins" in answer:
                number = answer["begins"]
                continue
            after = answer["number"]
            yield from (Check(**check) for check in answer["checks"])
        if number == after:
            return
        yield Check(name, WARNING, "it cannot be told: looking at it ended the program, or took too long")
        after = number


def _answers(home: Path, *, online: bool, after: int) -> Iterator[dict[str, Any]]:
    import json
    import subprocess

    arguments = ["--home", str(home), "--after", str(after), *(["--online"] if online else [])]
    path = [entry for entry in sys.path if entry and os.path.isabs(entry)]
    environ = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path)}
    program = subprocess.Popen(
        [sys.executable, *PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environ,
    )
    try:
        assert program.stdout is not None
        for line in _lines(program.stdout.fileno()):
            yield json.loads(line)
    finally:
        program.kill()
        program.communicate()


def _lines(fd: int) -> Iterator[bytes]:
    """Lines as they come, until none comes for too long."""
    import select
    import time

    buffer = b""
    end = time.monotonic() + PROBE_SECONDS
    while select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
        data = os.read(fd, 65536)
        if not data:
            return
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        yield from lines
        end = time.monotonic() + PROBE_SECONDS
