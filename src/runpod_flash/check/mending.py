"""`--fix`: moves imports inside and adds dependencies, by changing as little text as that takes."""

from __future__ import annotations

import ast
import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runpod_flash.check.edits import Edit, append_item, apply, insert_line, shares_line
from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Function, Module, argument
from runpod_flash.check.repairs import AddDependency, MoveImport, PlainImport, bound_by, import_line
from runpod_flash.check.source import Source, split_lines
from runpod_flash.errors import FlashError


@dataclass(frozen=True, slots=True)
class Mended:
    """A file as it would be."""

    path: str
    before: bytes
    after: bytes
    diff: str


def mend(findings: Iterable[Finding]) -> list[Mended]:
    """The files that the findings' repairs change, in order. Nothing is written."""
    by_module: dict[Module, list[Finding]] = {}
    for finding in findings:
        if finding.repair is not None:
            by_module.setdefault(finding.repair.module, []).append(finding)
    mended = (_mend(module.source, found) for module, found in by_module.items())
    return [one for one in mended if one is not None]


def write(mended: Mended) -> None:
    """Puts the new text in the place of the old one, at once or not at all; the file keeps its mode."""
    path = os.path.realpath(mended.path)
    try:
        if Path(path).read_bytes() != mended.before:
            raise FlashError(f"{mended.path} was changed meanwhile, and is left as it is", fix="run the check again")
        _replace(path, mended.after)
    except OSError as error:
        raise FlashError(
            f"{mended.path} cannot be written", why=str(error.strerror), fix="make the file and its folder writable"
        ) from None


def _replace(path: str, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".flash-check-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _mend(source: Source, found: list[Finding]) -> Mended | None:
    text = mended_text(source, found)
    before, after = source.text.encode(source.encoding), text.encode(source.encoding)
    return Mended(source.path, before, after, _diff(source.path, source.text, text)) if after != before else None


def mended_text(source: Source, found: Iterable[Finding]) -> str:
    """The text of a file after the repairs of findings in it; as it is, if the result were no Python."""
    repairs = [finding.repair for finding in found]
    edits = [
        *_moves([one for one in repairs if isinstance(one, MoveImport)]),
        *_additions(source, [one for one in repairs if isinstance(one, AddDependency)]),
    ]
    try:
        text = apply(source.text, edits)
        ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return source.text
    return text


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(split_lines(before), split_lines(after), f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n" for line in lines)


# ── imports ───────────────────────────────────────────────────────────────────────────────────────


def _moves(moves: list[MoveImport]) -> Iterator[Edit]:
    inside: dict[Function, dict[tuple[int, int], str]] = {}
    dropped: dict[PlainImport, set[str]] = {}
    for move in moves:
        needed = _needed_elsewhere(move, moves)
        for statement in move.statements:
            if not needed:
                dropped.setdefault(statement, set()).add(move.name)
            for alias in statement.names:
                if bound_by(alias, statement) == move.name:
                    for function in move.into:
                        inside.setdefault(function, {})[(alias.lineno, alias.col_offset)] = import_line(
                            alias, statement
                        )
    if moves:
        source = moves[0].module.source
        carried = dict(_carried_remarks(source, dropped, inside))
        for function, lines in inside.items():
            first, after = _first_statement(function)
            for place, line in sorted(lines.items()):
                yield insert_line(source, first, after, line + carried.get(place[0], ""))
        for statement, names in dropped.items():
            yield from _removal(source, statement, names, keep_remark=statement.lineno not in carried)


def _carried_remarks(
    source: Source, dropped: dict[PlainImport, set[str]], inside: dict[Function, dict[tuple[int, int], str]]
) -> Iterator[tuple[int, str]]:
    """The remarks behind imports that go as a whole, by line. They go along, unless something shares the new line."""
    for statement, names in dropped.items():
        remark = source.text[source.position(*_end_of(statement)) :].splitlines()[:1]
        into = [function for function, lines in inside.items() if any(line == statement.lineno for line, _ in lines)]
        if not remark or not remark[0].lstrip().startswith("#") or len(names) < len(statement.names):
            continue
        if not any(shares_line(source, _first_statement(function)[0]) for function in into):
            yield statement.lineno, remark[0]


def _first_statement(function: Function) -> tuple[ast.stmt, int]:
    """The first statement that is no docstring, and the line that it comes after."""
    first, *rest = function.body
    said = first.value if isinstance(first, ast.Expr) else None
    if rest and isinstance(said, ast.Constant) and isinstance(said.value, str):
        return rest[0], first.end_lineno or first.lineno
    return first, function.lineno


def _needed_elsewhere(move: MoveImport, moves: list[MoveImport]) -> bool:
    """Whether anything but the bodies that get their own import uses the name, or might."""
    module = move.module
    if os.path.basename(module.source.path) == "__init__.py":  # its names are there for others
        return True
    bodies = {function for one in moves if one.name == move.name for function in one.into}
    word = re.compile(rf"\b{re.escape(move.name)}\b")
    for node in (*module.of(ast.Name), *module.of(ast.Constant)):
        named = isinstance(node, ast.Name) and node.id == move.name
        if (named or _tells(module, node, word)) and not bodies.intersection(module.scopes_around(node)):
            return True
    return False


def _tells(module: Module, node: ast.AST, word: re.Pattern[str]) -> bool:
    """Whether a text could mean a name: a type written as text, an entry of `__all__`. A requirement does not."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and word.search(node.value)):
        return False
    around: ast.AST | None = module.parents.get(node)
    if isinstance(around, ast.Expr):
        return False
    while around is not None and not isinstance(around, ast.stmt):
        if isinstance(around, ast.Call) and module.ours(around.func) == "remote":
            return False
        around = module.parents.get(around)
    return True


def _removal(source: Source, statement: PlainImport, names: set[str], *, keep_remark: bool) -> Iterator[Edit]:
    """Takes names out of an import; what has remarks inside, or shares its line, stays as it is."""
    if all(bound_by(alias, statement) in names for alias in statement.names):
        yield from _whole_removal(source, statement, keep_remark)
        return
    kept = False
    for number, alias in enumerate(statement.names):
        if bound_by(alias, statement) not in names:
            kept = True
            continue
        cut = Edit(_start(source, alias), _start(source, statement.names[number + 1]), "") if not kept else None
        cut = cut or Edit(_end(source, statement.names[number - 1]), _end(source, alias), "")
        if "#" not in source.text[cut.start : cut.end]:
            yield cut
        else:
            kept = True


def _whole_removal(source: Source, statement: PlainImport, keep_remark: bool) -> Iterator[Edit]:
    """Takes the line away; what it says behind the import stays as a line of its own, or went along."""
    first, last = source.position(statement.lineno, 0), sum(map(len, source.lines[: statement.end_lineno]))
    start, end = source.position(statement.lineno, statement.col_offset), source.position(*_end_of(statement))
    rest = source.text[end:last].lstrip()
    alone = not source.text[first:start].strip(" \t\f") and not rest.startswith((";", "\\"))
    if not alone or "#" in source.text[start:end]:
        return
    yield Edit(first, last - len(rest) if rest.startswith("#") and keep_remark else last, "")


def _end_of(node: ast.stmt | ast.alias | ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _start(source: Source, alias: ast.alias) -> int:
    return source.position(alias.lineno, alias.col_offset)


def _end(source: Source, alias: ast.alias) -> int:
    return source.position(*_end_of(alias))


# ── dependencies ──────────────────────────────────────────────────────────────────────────────────


def _additions(source: Source, additions: list[AddDependency]) -> Iterator[Edit]:
    by_call: dict[ast.Call, dict[str, None]] = {}
    for one in additions:
        by_call.setdefault(one.call, {})[one.requirement] = None
    for call, requirements in by_call.items():
        yield from _addition(source, call, [f'"{one}"' for one in requirements])


def _addition(source: Source, call: ast.Call, requirements: list[str]) -> Iterator[Edit]:
    given = argument(call, "dependencies", 1)
    if isinstance(given, (ast.List, ast.Tuple)):
        yield from _extension(source, given, requirements)
    elif given is not None:  # None, written out
        yield Edit(*_span(source, given), f"[{', '.join(requirements)}]")
    else:
        written = f"dependencies=[{', '.join(requirements)}]"
        close = _span(source, call)[1] - 1
        last = max([*map(_place, call.args), *map(_place, call.keywords)], default=None)
        if last is None:
            yield Edit(close, close, written)
        else:
            yield from append_item(source, source.position(*last[2:]), source.position(*last[:2]), close, written)


def _extension(source: Source, given: ast.List | ast.Tuple, requirements: list[str]) -> Iterator[Edit]:
    start, end = _span(source, given)
    if not given.elts:
        comma = "," if isinstance(given, ast.Tuple) and len(requirements) == 1 else ""
        yield Edit(start + 1, start + 1, ", ".join(requirements) + comma)
        return
    last = given.elts[-1]
    yield from append_item(source, *_span(source, last), end - 1, ", ".join(requirements))


def _span(source: Source, node: ast.expr) -> tuple[int, int]:
    return source.position(node.lineno, node.col_offset), source.position(*_end_of(node))


def _place(node: ast.expr | ast.keyword) -> tuple[int, int, int, int]:
    """End and start of an argument."""
    return node.end_lineno or node.lineno, node.end_col_offset or 0, node.lineno, node.col_offset
