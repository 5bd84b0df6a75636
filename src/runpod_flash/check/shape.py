"""Rules on how a remote function is written: plain def, mutable defaults, arguments that are probably large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Function, Module, Remote

_MUTABLE: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_MUTABLE_CALLS: Final = frozenset({
    "list", "dict", "set", "bytearray", "collections.deque", "collections.defaultdict", "collections.OrderedDict",
    "collections.Counter",
})  # fmt: skip
_LARGE: Final = {
    "ndarray": "an array", "NDArray": "an array", "Tensor": "a tensor", "DataFrame": "a table", "Series": "a column",
    "Image": "an image", "bytes": "bytes", "bytearray": "bytes", "memoryview": "bytes",
}  # fmt: skip
_ROWS: Final = frozenset({"list", "List", "Sequence", "Iterable", "Collection"})
_ROW: Final = frozenset({"dict", "Dict", "list", "List", "tuple", "Tuple", "Mapping"})


def check(module: Module, remote: Remote) -> Iterator[Finding]:
    """The findings of one remote function."""
    for function in remote.methods:
        if isinstance(remote.node, ast.ClassDef) and function.name.startswith("_"):
            continue
        if isinstance(function, ast.FunctionDef):
            yield _plain(module, function)
        yield from _defaults(module, function)
        yield from _large(module, function)


def _plain(module: Module, function: ast.FunctionDef) -> Finding:
    return module.source.finding(
        "FL201",
        function,
        f"{function.name} is a plain def",
        "it works and its calls are awaited, but the specification has remote functions async",
        f"write `async def {function.name}`",
    )


def _defaults(module: Module, function: Function) -> Iterator[Finding]:
    for name, default in _with_default(function.args):
        if isinstance(default, _MUTABLE) or (
            isinstance(default, ast.Call) and module.dotted(default.func) in _MUTABLE_CALLS
        ):
            yield module.source.finding(
                "FL202",
                default,
                f"the default of {name!r} can change",
                "calls on one worker would share it, and calls on others would not",
                f"write {name}=None, and make it inside {function.name}",
            )


def _with_default(given: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    positional = [*given.posonlyargs, *given.args]
    for arg, default in zip(reversed(positional), reversed(given.defaults), strict=False):
        yield arg.arg, default
    for arg, keyword_default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        if keyword_default is not None:
            yield arg.arg, keyword_default


def _large(module: Module, function: Function) -> Iterator[Finding]:
    given = function.args
    for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        if arg.annotation is not None and (kind := _kind(arg.annotation)):
            yield module.source.finding(
                "FL204",
                arg,
                f"{arg.arg!r} is {kind}, sent whole with every call",
                "arguments travel and are kept with the job; large ones cost time at each step",
                "pass where it is (a URL, a path on a volume), and read it inside",
            )


def _kind(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ""
    if isinstance(annotation, ast.Subscript) and _last(annotation.value) in _ROWS:
        inner = annotation.slice.value if isinstance(annotation.slice, ast.Subscript) else annotation.slice
        return "a list of records" if _last(inner) in _ROW else ""
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return _LARGE.get(_last(annotation), "")


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
