"""The check itself: files in, a report out. Nothing that is checked is run or imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from runpod_flash.check import awaits, declared, files, names, returns, shape, style
from runpod_flash.check.finding import RULES, Finding, Rule
from runpod_flash.check.ignores import without_ignored
from runpod_flash.check.module import Module
from runpod_flash.check.neighbours import Neighbours, mentions_flash
from runpod_flash.check.packages import Packages
from runpod_flash.check.reach import Reach
from runpod_flash.check.source import Source, Unreadable, read
from runpod_flash.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class View:
    """Which findings are shown. The default view: all but notes."""

    strict: bool = False
    select: frozenset[str] = frozenset()
    """Codes to show, also those of notes; empty: those of the view."""
    ignore: frozenset[str] = frozenset()

    def shows(self, rule: Rule) -> bool:
        """Whether findings of a rule are shown."""
        if rule.code in self.ignore:
            return False
        return rule.code in self.select if self.select else self.strict or rule.severity != "note"


@dataclass(slots=True)
class Report:
    """What was found, in the order of files and places."""

    findings: list[Finding] = field(default_factory=list)
    skipped: list[files.Skipped] = field(default_factory=list)
    files: int = 0
    hidden_notes: int = 0
    """Notes that the strict view would show."""


def check(paths: Iterable[str], view: View) -> Report:
    """Checks files and folders. UsageError: one of them is not there."""
    report = Report()
    neighbours = Neighbours()
    for one in files.find(paths):
        if isinstance(one, files.Skipped):
            report.skipped.append(one)
            continue
        report.files += 1
        for finding in check_file(one, neighbours):
            if view.shows(finding.rule):
                report.findings.append(finding)
            elif finding.rule.severity == "note" and not view.select:
                report.hidden_notes += 1
    report.findings.sort(key=lambda finding: finding.order)
    return report


def check_file(file: files.Found, neighbours: Neighbours) -> list[Finding]:
    """Everything there is to say about one file, in every view."""
    try:
        source = read(file.path, file.shown)
    except Unreadable as refused:
        return [refused.finding]
    return check_source(source, neighbours)


def check_source(source: Source, neighbours: Neighbours) -> list[Finding]:
    """The same for what has been read."""
    try:
        return list(without_ignored(source.text, dict.fromkeys(_findings(source, neighbours))))
    except RecursionError:
        what = "this is nested too deeply to be checked"
        return [source.finding("FL001", source.tree, what, "Python itself could read it", "write it flatter")]


def read_codes(text: str) -> frozenset[str]:
    """The rules that a list such as `FL101,FL2` names; UsageError for one that there is not."""
    found: set[str] = set()
    for word in text.replace(",", " ").upper().split():
        codes = {code for code in RULES if code.startswith(word)}
        if not codes:
            meant = did_you_mean(word, RULES)
            raise UsageError(f"there is no rule {word}.{meant}", fix="docs/reference/check.md lists the rules")
        found |= codes
    return frozenset(found)


def _findings(source: Source, neighbours: Neighbours) -> Iterator[Finding]:
    imported = neighbours.imported(source)
    if not imported and not mentions_flash(source.text):
        return
    module = Module(source)
    for remote in module.remotes:
        packages = Packages(module, remote, neighbours)
        reach = Reach(module, remote)
        yield from names.check(module, remote, reach, packages)
        yield from packages.check(reach)
        yield from shape.check(module, remote)
        yield from returns.check(module, remote)
    yield from awaits.check(module, imported)
    yield from declared.check(module)
    yield from style.check(module)
