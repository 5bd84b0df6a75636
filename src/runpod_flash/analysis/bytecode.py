"""Facts from a code object, for functions whose text is nowhere: `exec`, `python -c`, a plain REPL.

Names, imports and assignments stand in the instructions. Guards and changes of values do not, so imports count as
guarded: what works is not refused for lack of a text.
"""

from __future__ import annotations

import dis
import re
import types
from collections.abc import Iterator
from typing import Any, Final

from runpod_flash.analysis.facts import Facts, Import, Mutation, Use

_READS: Final = re.compile(r"LOAD_(?:NAME|GLOBAL|DEREF|CLASSDEREF|FROM_DICT_OR_(?:GLOBALS|DEREF))")
_WRITES: Final = re.compile(r"(?:STORE|DELETE)_(?:GLOBAL|DEREF)")
_OF_CELLS: Final = re.compile(r"DEREF")


def facts_of_code(code: types.CodeType) -> Facts:
    """The facts of a function's code, also of the functions and classes in it."""
    uses: dict[str, dict[int, None]] = {}
    imports: list[Import] = []
    mutations: list[Mutation] = []
    for inner, outside in _codes(code, frozenset(code.co_freevars)):
        steps = list(_steps(inner))
        bound = {"__module__", "__qualname__", "__name__"}  # by the body of a class, up to the step
        for index, (step, line) in enumerate(steps):
            name = str(step.argval)
            cell = _OF_CELLS.search(step.opname) is not None
            if cell and name not in outside:
                continue
            if step.opname == "STORE_NAME":
                bound.add(name)
            elif _READS.fullmatch(step.opname) and not (step.opname == "LOAD_NAME" and name in bound):
                uses.setdefault(name, {})[line] = None
            elif _WRITES.fullmatch(step.opname):
                mutations.append(Mutation(name, line, "bind", f"{name} = …"))
            elif step.opname == "IMPORT_NAME":
                imports.append(_import(name, line, [one.argval for one, _ in steps[max(index - 2, 0) : index]]))
    found = tuple(Use(name, tuple(sorted(lines))) for name, lines in uses.items())
    own = frozenset(code.co_varnames + code.co_cellvars)
    line = code.co_firstlineno
    return Facts(code.co_name, line, found, tuple(imports), tuple(mutations), own)


def _codes(code: types.CodeType, outside: frozenset[str]) -> Iterator[tuple[types.CodeType, frozenset[str]]]:
    """A code object and those inside it, each with the names of cells that come from outside the outermost."""
    yield code, outside
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant, (outside - frozenset(code.co_cellvars)) & frozenset(constant.co_freevars))


def _steps(code: types.CodeType) -> Iterator[tuple[dis.Instruction, int]]:
    line = code.co_firstlineno
    for step in dis.get_instructions(code):
        positions = getattr(step, "positions", None)
        line = (positions.lineno if positions else None) or _starts(step) or line
        yield step, line


def _starts(step: Any) -> int | None:
    """The line that begins here, on Pythons whose instructions have no positions of their own."""
    return step.starts_line if isinstance(step.starts_line, int) and step.starts_line is not True else None


def _import(module: str, line: int, before: list[Any]) -> Import:
    """The two values that IMPORT_NAME takes are the level and the names, loaded just before it."""
    level = next((one for one in before if isinstance(one, int)), 0)
    names = next((one for one in before if isinstance(one, tuple)), ())
    return Import(module, line, tuple(map(str, names)), level, guarded=True)
