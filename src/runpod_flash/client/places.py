"""Where something stands in the user's files. Only read for a message, so files are parsed here without haste."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final

from runpod_flash.analysis.bindings import Binding, bindings_of
from runpod_flash.client.source import source_of

_VARIABLE: Final = re.compile(r"""(?:environ(?:\.get)?|getenv)[\[(]['"](\w+)['"]""")


def line(file: str, number: int) -> str:
    """`file:line`."""
    return f"{file}:{number}"


def lines(file: str, numbers: Iterable[int]) -> tuple[str, ...]:
    """Each line of a file once, in order."""
    return tuple(line(file, number) for number in dict.fromkeys(numbers))


def uses(function: types.FunctionType, name: str) -> tuple[str, ...]:
    """Where a function uses a name from outside."""
    code = function.__code__
    use = source_of(code).facts.use(name)
    return lines(code.co_filename, use.lines if use is not None else (code.co_firstlineno,))


def definition(function: types.FunctionType, name: str) -> str:
    """Where a name that a function uses is bound; "" where no text shows it."""
    value: Any = function.__globals__.get(name)
    is_code = isinstance(value, (types.FunctionType, type)) and name not in function.__code__.co_freevars
    if is_code and (found := _of_value(value)):
        return found
    binding = _binding(function, name)
    return line(function.__code__.co_filename, binding.line) if binding is not None else ""


def variable_of(function: types.FunctionType, name: str) -> str:
    """The environment variable that a name is read from where it is bound; "" if it is not."""
    binding = _binding(function, name)
    found = _VARIABLE.search(ast.unparse(binding.value)) if binding is not None and binding.value is not None else None
    return found[1] if found is not None else ""


def _binding(function: types.FunctionType, name: str) -> Binding | None:
    try:
        tree = ast.parse("".join(linecache.getlines(function.__code__.co_filename)))
    except (SyntaxError, ValueError):
        return None
    enclosing = _around(tree, function.__code__.co_firstlineno) if name in function.__code__.co_freevars else ()
    for body in (*enclosing, tree.body):
        if (binding := bindings_of(body).get(name)) is not None:
            return binding
    return None


def _of_value(value: Any) -> str:
    try:
        file = inspect.getsourcefile(value)
        return line(file, inspect.getsourcelines(value)[1]) if file else ""
    except (OSError, TypeError, SyntaxError, IndexError):
        return ""


def _around(tree: ast.Module, number: int) -> Iterator[list[ast.stmt]]:
    """The bodies of the functions around a line, the innermost first."""
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.lineno < number <= (node.end_lineno or node.lineno)
    ]
    return (node.body for node in sorted(functions, key=lambda node: -node.lineno))
