"""The text of a function and the facts in it, read once for each code object."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
import textwrap
import types
import weakref
from collections.abc import Iterator
from typing import Final, NamedTuple

from runpod_flash.analysis.bytecode import facts_of_code
from runpod_flash.analysis.facts import Facts
from runpod_flash.analysis.reading import facts_of

_POSTPONED: Final = 0x1000000  # CO_FUTURE_ANNOTATIONS


class Source(NamedTuple):
    """What is known of a function's text. Without text (a lambda, `exec`, a plain REPL) facts come from its code."""

    text: str | None
    """From its `def` on: decorators are a matter of who calls it."""
    facts: Facts


_known: weakref.WeakKeyDictionary[types.CodeType, Source] = weakref.WeakKeyDictionary()


def source_of(code: types.CodeType) -> Source:
    """The text and the facts of a function."""
    found = _known.get(code)
    if found is None:
        found = _known[code] = _read(code) or Source(None, facts_of_code(code))
    return found


def _read(code: types.CodeType) -> Source | None:
    if code.co_name == "<lambda>":  # its lines may hold others
        return None
    for lines in _blocks(code):
        block = "".join(lines)
        try:
            node, shift = _definition(block, code)
        except (SyntaxError, ValueError, IndexError):
            continue
        # A file that was changed since it was imported shows another function at these lines.
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            postponed = bool(code.co_flags & _POSTPONED) or sys.version_info >= (3, 14)
            text = "".join(lines[node.lineno + shift - code.co_firstlineno :])
            return Source(textwrap.dedent(text), facts_of(node, shift=shift, postponed=postponed))
    return None


def _blocks(code: types.CodeType) -> Iterator[list[str]]:
    """The lines of a function: as far as its code says, which is quick, and as far as its indentation goes."""
    lines = linecache.getlines(code.co_filename)
    if last := _last_line(code):
        yield lines[code.co_firstlineno - 1 : last]
    try:
        yield inspect.getsourcelines(code)[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return


def _last_line(code: types.CodeType) -> int:
    """Where the last expression ends; 0 on Python 3.10, whose code knows only where lines begin."""
    positions = getattr(code, "co_positions", tuple)
    own = (end for _, end, _, _ in positions() if end)
    nested = (_last_line(one) for one in code.co_consts if isinstance(one, types.CodeType))
    return max((*own, *nested), default=0)


def _definition(block: str, code: types.CodeType) -> tuple[ast.stmt, int]:
    """The definition in `block`, and what has to be added to its lines."""
    if not block[:1].isspace():
        return ast.parse(block).body[0], code.co_firstlineno - 1
    # Indented: put into a block of its own, because taking indentation away would change texts of many lines.
    around = ast.parse(f"if 1:\n{block}").body[0]
    assert isinstance(around, ast.If)
    return around.body[0], code.co_firstlineno - 2


# ── classes ───────────────────────────────────────────────────────────────────────────────────────


def class_text(cls: type) -> str:
    """The text of a class, as far as its indentation goes; "" where no file has it.

    Only to notice changes, so it may be rough: of classes of one name it is the text of all. `inspect.getsource` would
    parse the whole file, and load what tokenizes.
    """
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    lines = linecache.getlines(file) if file else []
    begins = re.compile(rf"(\s*)class\s+{re.escape(cls.__name__)}\b")
    found: list[str] = []
    for number, line in enumerate(lines):
        if begun := begins.match(line):
            found += [line, *_deeper(lines, number + 1, len(begun[1]))]
    return textwrap.dedent("".join(found))


def _deeper(lines: list[str], start: int, indentation: int) -> Iterator[str]:
    for number in range(start, len(lines)):
        text = lines[number].lstrip()
        if text and len(lines[number]) - len(text) <= indentation and text[0] not in "#)]}":
            return
        yield lines[number]
