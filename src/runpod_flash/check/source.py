"""One file as text: decoded as Python would, parsed, with its places counted in characters."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runpod_flash.check.finding import RULES, Finding

LARGEST: Final = 5_000_000
"""Bytes. What is larger was written by a program."""

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


class Unreadable(Exception):
    """A file that cannot be checked; holds the finding that says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.what)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text as it is on disk (line ends included, a byte order mark not), and its tree."""

    path: str
    text: str
    encoding: str
    """The one that its bytes are in; "utf-8-sig" with a byte order mark."""
    tree: ast.Module
    lines: list[str] = field(default_factory=list)
    """With their line ends."""

    def column(self, line: int, offset: int) -> int:
        """The column, from 1 and in characters, of an offset that the parser counts in bytes of UTF-8."""
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return offset + 1 if text.isascii() else len(text.encode()[:offset].decode(errors="replace")) + 1

    def position(self, line: int, offset: int) -> int:
        """Where in `text` the parser's line and offset are."""
        return sum(map(len, self.lines[: line - 1])) + self.column(line, offset) - 1

    def segment(self, node: ast.expr | ast.stmt | ast.alias) -> str:
        """The text of a node, as it is written."""
        end = self.position(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
        return self.text[self.position(node.lineno, node.col_offset) : end]

    def finding(self, code: str, node: ast.AST, what: str, why: str, fix: str) -> Finding:
        """A finding at a node."""
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        end_line, end_offset = _end(node)
        return Finding(
            RULES[code],
            self.path,
            line,
            self.column(line, offset),
            end_line,
            self.column(end_line, end_offset),
            what,
            why,
            fix,
        )


def read(path: Path, shown: str) -> Source:
    """The file, parsed. Unreadable says at which line it stops being Python."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _refusal("FL002", shown, f"the file cannot be read: {error.strerror}", "", "") from None
    return parse(data, shown)


def parse(data: bytes, shown: str) -> Source:
    """The bytes of a file, parsed."""
    encoding, text = _decode(data, shown)
    if "\0" in text:
        line = len(split_lines(text[: text.index("\0") + 1]))
        raise _refusal("FL001", shown, "this is no Python: it has a null byte", _PARSER, _MEND, line)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's own escapes and comparisons; other tools say that
            tree = ast.parse(text)
    except SyntaxError as error:
        line, column = error.lineno or 1, max(1, error.offset or 1)
        raise _refusal("FL001", shown, f"this is no Python: {error.msg}", _PARSER, _MEND, line, column) from None
    except (RecursionError, MemoryError):
        raise _refusal("FL001", shown, "this is nested too deeply for Python", _PARSER, "write it flatter") from None
    except ValueError as error:  # half of a surrogate pair, which some encodings let through
        raise _refusal("FL001", shown, f"this is no Python: {error}", _PARSER, _MEND) from None
    return Source(shown, text, encoding, tree, split_lines(text))


def split_lines(text: str) -> list[str]:
    """The lines as the parser counts them: a form feed or a Unicode separator ends none."""
    lines = _LINE.findall(text)
    return lines[:-1] if lines and not lines[-1] else lines


_PARSER: Final = "Python refuses the file, so nothing in it was checked"
_MEND: Final = "mend that line, then check again"


def _decode(data: bytes, shown: str) -> tuple[str, str]:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, LookupError, ValueError) as error:
        line = data[: error.start].count(b"\n") + 1 if isinstance(error, UnicodeDecodeError) else 1
        why = "Python reads a file as UTF-8 unless its first two lines name another encoding"
        fix = "save it as UTF-8, or name its encoding: # -*- coding: latin-1 -*-"
        raise _refusal("FL002", shown, f"the file cannot be decoded: {error}", why, fix, line) from None
    return encoding, text


def _refusal(code: str, shown: str, what: str, why: str, fix: str, line: int = 1, column: int = 1) -> Unreadable:
    return Unreadable(Finding(RULES[code], shown, line, column, line, column + 1, what, why, fix))


def _end(node: ast.AST) -> tuple[int, int]:
    """Where a finding's mark ends: of a definition, its first line only."""
    line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return line, offset + len({ast.FunctionDef: "def", ast.ClassDef: "class"}.get(type(node), "async def"))
    return getattr(node, "end_lineno", None) or line, getattr(node, "end_col_offset", None) or offset + 1
