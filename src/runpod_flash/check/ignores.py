"""`# flash: ignore`: findings that the author has seen and means."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from typing import Final

from runpod_flash.check.finding import Finding

_COMMENT: Final = re.compile(r"#\s*flash:\s*ignore\b(?:\[([^\]]*)\])?", re.IGNORECASE)


def without_ignored(text: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings on whose line no comment lets them pass."""
    found = list(findings)
    allowed = _allowed(text) if found and "flash:" in text.lower() else {}
    for finding in found:
        codes = allowed.get(finding.line)
        if codes is None or (codes and finding.rule.code not in codes):
            yield finding


def _allowed(text: str) -> dict[int, frozenset[str]]:
    """Lines with such a comment, each with its codes; none: all."""
    lines: dict[int, frozenset[str]] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            if token.type == tokenize.COMMENT and (said := _COMMENT.search(token.string)):
                lines[token.start[0]] = frozenset(re.findall(r"\w+", (said[1] or "").upper()))
    except (tokenize.TokenError, SyntaxError):  # the parser read it, so this is the tokenizer's own limit
        pass
    return lines
