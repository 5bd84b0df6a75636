"""What the checker says: rules, and findings of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from runpod_flash.check.repairs import Repair

Severity = Literal["error", "warning", "note"]
"""error: it cannot work · warning: it works, and a call would say so or somebody will be sorry · note: against the
specification's letter, shown in the strict view only."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is looked for. Its code is stable; docs/reference/check.md has a section on each."""

    code: str
    name: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule. Lines and columns count from 1, columns in characters; the end is exclusive."""

    rule: Rule
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    what: str
    why: str
    fix: str
    repair: Repair | None = None
    """How `--fix` does it, where it can."""

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        """Findings are shown by file, then by place."""
        return self.path, self.line, self.column, self.rule.code, self.what


def _rules(*rules: Rule) -> dict[str, Rule]:
    return {rule.code: rule for rule in rules}


RULES: Final = _rules(
    Rule("FL001", "syntax", "error"),
    Rule("FL002", "unreadable", "error"),
    Rule("FL101", "undefined-name", "error"),
    Rule("FL102", "missing-package", "error"),
    Rule("FL103", "undeclared-package", "warning"),
    Rule("FL104", "package-of-the-project", "note"),
    Rule("FL105", "changed-capture", "error"),
    Rule("FL106", "captured-secret", "error"),
    Rule("FL107", "captured-handle", "error"),
    Rule("FL108", "outside-name", "note"),
    Rule("FL109", "package-imported-outside", "warning"),
    Rule("FL110", "module-imported-outside", "note"),
    Rule("FL201", "plain-def", "note"),
    Rule("FL202", "mutable-default", "warning"),
    Rule("FL203", "not-json", "warning"),
    Rule("FL204", "large-argument", "note"),
    Rule("FL301", "forgotten-await", "error"),
    Rule("FL401", "unknown-argument", "error"),
    Rule("FL402", "impossible-value", "error"),
    Rule("FL403", "impossible-route", "error"),
    Rule("FL404", "shared-route", "error"),
    Rule("FL405", "no-resource", "error"),
    Rule("FL406", "without-effect", "warning"),
    Rule("FL407", "always-on-gpu", "note"),
    Rule("FL501", "missing-annotation", "note"),
    Rule("FL502", "nested-condition", "note"),
    Rule("FL503", "print", "note"),
    Rule("FL504", "written-secret", "warning"),
    Rule("FL505", "bare-except", "note"),
)
"""Every rule by its code: 0 files · 1 what a function reaches · 2 how it is written · 3 how it is called · 4 what is
declared for it · 5 style of the code around it."""
