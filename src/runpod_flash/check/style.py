"""Rules on the code around remote functions, as the guidelines for projects have them. Only in files that use Flash."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final, TypeGuard

from runpod_flash.analysis.secrets import sounds_secret
from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Function, Module

_LEAST_SECRET: Final = 8
_PLACEHOLDER: Final = re.compile(
    r"[<>{}\s*…]|^(?:\$|/|https?:)|x{3,}|your|change|example|placeholder|dummy|secret|password|token|todo|none|null|test",
    re.IGNORECASE,
)


def check(module: Module) -> Iterator[Finding]:
    """The findings of a whole file."""
    if not module.uses_flash:
        return
    for function in module.functions:
        yield from _annotations(module, function)
        yield from _nested(module, function)
    for call in module.of(ast.Call):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield from _printed(module, call)
    assignments: list[ast.Assign | ast.AnnAssign | ast.keyword] = [
        *module.of(ast.Assign),
        *module.of(ast.AnnAssign),
        *module.of(ast.keyword),
    ]
    for node in assignments:
        yield from _secret(module, node)
    for handler in module.of(ast.ExceptHandler):
        if handler.type is None:
            yield _bare(module, handler)


def _annotations(module: Module, function: Function) -> Iterator[Finding]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    if positional and isinstance(module.parents.get(function), ast.ClassDef) and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    bare = [one.arg for one in (*positional, *given.kwonlyargs) if one.annotation is None]
    # What is defined inside a function is nobody else's business.
    if bare and not module.functions_around(function):
        yield module.source.finding(
            "FL501",
            function,
            f"{function.name} does not say the types of {', '.join(bare)}",
            "types document a function, and `flash call` and load-balanced routes read arguments by them",
            f"annotate {bare[0]}",
        )


def _nested(module: Module, function: Function) -> Iterator[Finding]:
    last = function.body[-1]
    if _ends_in_raise(last) and any(_ends_in_raise(one) for one in last.body):
        yield module.source.finding(
            "FL502",
            last,
            f"{function.name} nests its work in conditions",
            "each refusal stands far from what it is about",
            "refuse first: `if not …: raise …`, then go on unindented",
        )


def _ends_in_raise(node: ast.stmt) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.Raise)


def _printed(module: Module, call: ast.Call) -> Iterator[Finding]:
    if not _of_program(module, call):
        yield module.source.finding(
            "FL503",
            call,
            "this prints",
            "a line of a log has a level, a time and a logger; a printed one has none",
            "write logger.info(…), with logger = logging.getLogger(__name__)",
        )


def _of_program(module: Module, node: ast.AST) -> bool:
    """Whether a statement belongs to `if __name__ == "__main__":`, whose output is for whoever started it."""
    parent = module.parents.get(node)
    while parent is not None:
        if isinstance(parent, ast.If) and "__main__" in ast.dump(parent.test):
            return True
        parent = module.parents.get(parent)
    return False


def _secret(module: Module, node: ast.Assign | ast.AnnAssign | ast.keyword) -> Iterator[Finding]:
    value = node.value
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str) or not _is_secret(value.value):
        return
    for name in _named(node):
        if sounds_secret(name):
            yield module.source.finding(
                "FL504",
                value,
                f"{name!r} is written into the file",
                "whoever reads the file has it, and so has every copy of the repository",
                f'write env={{"{name.upper()}": None}} in @remote, and read os.environ["{name.upper()}"] inside',
            )


def _named(node: ast.Assign | ast.AnnAssign | ast.keyword) -> list[str]:
    if isinstance(node, ast.keyword):
        return [node.arg or ""]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [one.id for one in targets if isinstance(one, ast.Name)]


def _is_secret(text: str) -> bool:
    """Whether a text is long and odd enough; a placeholder is not."""
    return len(text) >= _LEAST_SECRET and not _PLACEHOLDER.search(text) and any(char.isdigit() for char in text)


def _bare(module: Module, handler: ast.ExceptHandler) -> Finding:
    return module.source.finding(
        "FL505",
        handler,
        "a bare except catches everything",
        "also what ends or cancels the call: SystemExit, KeyboardInterrupt, CancelledError",
        "name what is expected: except ValueError",
    )
