"""`flash check`: what a call would refuse or warn about, read from source files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.check.finding import Finding
    from runpod_flash.check.mending import Mended
    from runpod_flash.check.run import Report

_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(
    cls=Page,
    codes={1: "it found something"},
    see=("call",),
    epilog=examples(
        "flash check                      this folder and what is below it",
        "flash check app.py --strict      also what only the specification's letter forbids",
        "flash check --fix                show what can be mended as a diff, then ask",
        "flash check --ignore FL2,FL503   without these rules",
    ),
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
@click.option("--strict", is_flag=True, help="Also notes: all that FLASH_SCOPE=strict and the guidelines forbid.")
@click.option("--select", metavar="CODES", default="", help="Only these rules, such as FL101,FL3.")
@click.option("--ignore", metavar="CODES", default="", help="Not these rules.")
@click.option("--fix", is_flag=True, help="Move imports inside and add dependencies: a diff first.")
@click.option("--yes", is_flag=True, help="With --fix: write without asking.")
@json_option
def check(paths: tuple[str, ...], strict: bool, select: str, ignore: str, fix: bool, yes: bool, as_json: bool) -> None:
    """Find what a call would refuse or warn about, without running anything.

    PATH is a file or a folder; without one, this folder. Exits with 1 if it lists anything.
    """
    from runpod_flash.check import run

    view = run.View(_strict(strict), run.read_codes(select), run.read_codes(ignore))
    asked = paths or (".",)
    report = run.check(asked, view)
    mends: list[Mended] | None = None
    if fix:
        mends = _mends(report, quiet=as_json)
        if mends and _write(mends, yes):
            report = run.check(asked, view)
    if as_json:
        views.show_json(_facts(report) | ({} if mends is None else {"mends": [_mend_facts(one, yes) for one in mends]}))
    else:
        _show(report)
    sys.exit(FAILED if report.findings else 0)


def _strict(asked: bool) -> bool:
    """`--strict`, or a project that says `scope = "strict"`."""
    from runpod_flash import settings

    return asked or getattr(settings.load(), "scope", "") == "strict"


# ── showing ───────────────────────────────────────────────────────────────────────────────────────


def _show(report: Report) -> None:
    for finding in report.findings:
        if views.on_terminal():
            _picture(finding)
        else:
            click.echo(_line(finding))
    for skipped in report.skipped:
        views.note(f"skipped {views.clean(skipped.path)}: {skipped.reason}")
    views.note(_summary(report))


def _line(finding: Finding) -> str:
    """One finding as one line, for programs that cut lines."""
    place = f"{finding.path}:{finding.line}:{finding.column}"
    repair = " [*]" if finding.repair else ""
    text = f"{finding.what}; {finding.why}; {finding.fix}" if finding.fix else finding.what
    return views.clean(f"{place}: {finding.rule.severity} {finding.rule.code}{repair} {text}")


def _picture(finding: Finding) -> None:
    """One finding with the line that it is about."""
    colour = _COLOURS[finding.rule.severity]
    head = f"{finding.rule.severity} {finding.rule.code}"
    click.echo(f"{_styled(head, fg=colour, bold=True)} {_styled(views.clean(finding.what), bold=True)}")
    number = f"{finding.line}"
    margin = " " * len(number)
    click.echo(f"{margin}--> {views.clean(finding.path)}:{finding.line}:{finding.column}")
    if text := _source_line(finding):
        before, mark = _mark(finding, text)
        click.echo(f"{margin} |")
        click.echo(f"{number} | {views.clean_line(text)}")
        click.echo(f"{margin} | {before}{_styled(mark, fg=colour)}")
    for label, said in (("why", finding.why), ("fix", finding.fix)):
        if said:
            click.echo(f"{margin} = {label}: {views.clean(said)}")
    click.echo()


def _mark(finding: Finding, text: str) -> tuple[str, str]:
    """The blanks before the carets, and the carets, as wide as what is marked in this line."""
    end = finding.end_column if finding.end_line == finding.line else len(text.rstrip()) + 1
    start = min(finding.column, len(text) + 1)
    before, marked = text[: start - 1], text[start - 1 : end - 1]
    return " " * len(views.clean_line(before)), "^" * max(1, len(views.clean_line(marked)))


def _source_line(finding: Finding) -> str:
    import linecache

    return linecache.getline(finding.path, finding.line).rstrip("\r\n")


def _styled(text: str, **style: Any) -> str:
    return click.style(text, **style) if views.coloured() else text


def _summary(report: Report) -> str:
    checked = views.count(report.files, "file")
    if not report.findings:
        text = f"nothing found in {checked}"
    else:
        counts = [
            views.count(number, severity)
            for severity in ("error", "warning", "note")
            if (number := sum(finding.rule.severity == severity for finding in report.findings))
        ]
        text = f"{', '.join(counts)} in {checked}"
    mendable = sum(finding.repair is not None for finding in report.findings)
    if mendable:
        text += f"; [*] {mendable} can be mended by flash check --fix"
    if report.hidden_notes:
        text += f"; {views.count(report.hidden_notes, 'note')} more with --strict"
    return text


def _facts(report: Report) -> dict[str, Any]:
    return {
        "files": report.files,
        "findings": [
            {
                "code": finding.rule.code,
                "rule": finding.rule.name,
                "severity": finding.rule.severity,
                "path": finding.path,
                "line": finding.line,
                "column": finding.column,
                "end_line": finding.end_line,
                "end_column": finding.end_column,
                "what": finding.what,
                "why": finding.why,
                "fix": finding.fix,
                "mendable": finding.repair is not None,
            }
            for finding in report.findings
        ],
        "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in report.skipped],
        "hidden_notes": report.hidden_notes,
    }


# ── mending ───────────────────────────────────────────────────────────────────────────────────────


def _mends(report: Report, *, quiet: bool) -> list[Mended]:
    """What would change, shown as a diff."""
    from runpod_flash.check import mending

    found = mending.mend(report.findings)
    for one in found:
        if not quiet:
            _show_diff(one.diff)
    if not found:
        views.note("nothing here can be mended by itself")
    return found


def _write(mends: list[Mended], yes: bool) -> bool:
    """Writes the files, if that is wanted."""
    from runpod_flash.check import mending

    files = views.count(len(mends), "file")
    if not yes and not _agreed(files):
        return False
    for one in mends:
        mending.write(one)
    views.note(f"{files} changed")
    return True


def _agreed(files: str) -> bool:
    if sys.stdin.isatty():
        return click.confirm(f"Change {files}?", err=True)
    views.note("nothing was changed: say `flash check --fix --yes` to write this")
    return False


def _show_diff(diff: str) -> None:
    if not views.on_terminal():
        click.echo(diff, nl=False)  # as it is, for `patch`
        return
    for line in diff.splitlines():
        click.echo(_styled(views.clean_line(line), fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1])))


def _mend_facts(mended: Mended, written: bool) -> dict[str, Any]:
    return {"path": mended.path, "diff": mended.diff, "written": written}
