"""Changes of a text by position: what is not named stays as it is, byte for byte."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from runpod_flash.check.source import Source

_COMMENT: Final = re.compile(r"#[^\r\n]*")


class Edit(NamedTuple):
    """Replaces the text from `start` to `end`."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits done. Those at one place come in the order in which they are given."""
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if edit.start < at:
            raise ValueError("edits overlap")
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join([*pieces, text[at:]])


def insert_line(source: Source, before: ast.stmt, after_line: int, line: str) -> Edit:
    """An edit that makes `line` a statement in front of `before`, no higher than below the line `after_line`.

    It goes above the comments that lead to `before`. Where that statement shares its line with what is before it
    (`def f(): return 1`), the new one does, too.
    """
    if shares_line(source, before):
        at = source.position(before.lineno, before.col_offset)
        return Edit(at, at, f"{line}; ")
    number = _first_line(before)
    text = source.lines[number - 1]
    indent = text[: len(text) - len(text.lstrip(" \t\f"))]
    while number - 1 > after_line and _is_remark(source.lines[number - 2]):
        number -= 1
    at = source.position(number, 0)
    return Edit(at, at, f"{indent}{line}{newline(source, number)}")


def shares_line(source: Source, statement: ast.stmt) -> bool:
    """Whether something stands before a statement in its line, as far as the language counts lines."""
    number = _first_line(statement)
    if number > 1 and source.lines[number - 2].rstrip("\r\n").endswith("\\"):
        return True
    before = source.lines[number - 1][: source.column(number, statement.col_offset) - 1]
    return number == statement.lineno and bool(before.strip(" \t\f"))


def append_item(source: Source, first: int, last: int, close: int, item: str) -> list[Edit]:
    """Edits that add an item behind the last one of a list or call.

    `first` and `last`: where the last item starts and ends; `close`: where the closing bracket is.
    """
    rest = _COMMENT.sub(lambda found: " " * len(found[0]), source.text[last:close])
    anchor = last + len(rest.rstrip())
    comma = "," in rest
    if "\n" not in rest and "\r" not in rest:
        space = "" if source.text[close - 1] in " \t" and comma else " "
        return [Edit(close, close, f"{space}{item}")] if comma else [Edit(anchor, anchor, f", {item}")]
    line = _line_of(source, first)
    indent = source.lines[line][: len(source.lines[line]) - len(source.lines[line].lstrip(" \t"))]
    end_line = _line_of(source, anchor)
    at = sum(map(len, source.lines[: end_line + 1]))
    added = Edit(at, at, f"{indent}{item},{newline(source, end_line + 1)}")
    return [added] if comma else [Edit(anchor, anchor, ","), added]


def newline(source: Source, line: int) -> str:
    """How a line ends, and so how one beside it should."""
    ends = (text[len(text.rstrip("\r\n")) :] for text in (source.lines[line - 1], source.lines[0]))
    return next(filter(None, ends), "\n")


def _first_line(statement: ast.stmt) -> int:
    """Where a statement starts, with its decorators."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(one.lineno for one in decorators)])


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _line_of(source: Source, position: int) -> int:
    """The line, from 0, that a position of the text is in."""
    at = 0
    for number, line in enumerate(source.lines):
        at += len(line)
        if position < at:
            return number
    return len(source.lines) - 1
