"""The rule on returned values that are visibly not JSON."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Function, Module, Remote, own_nodes

_MADE: Final = {
    "set": "a set", "frozenset": "a set", "bytes": "bytes", "bytearray": "bytes", "complex": "a complex number",
    "open": "an open file", "map": "an iterator", "filter": "an iterator", "zip": "an iterator", "range": "a range",
    "object": "an object",
    "datetime.datetime": "a datetime", "datetime.datetime.now": "a datetime", "datetime.datetime.utcnow": "a datetime",
    "datetime.datetime.today": "a datetime", "datetime.datetime.fromtimestamp": "a datetime",
    "datetime.datetime.fromisoformat": "a datetime", "datetime.datetime.strptime": "a datetime",
    "datetime.datetime.combine": "a datetime", "datetime.date": "a date", "datetime.date.today": "a date",
    "datetime.date.fromisoformat": "a date", "datetime.time": "a time", "datetime.timedelta": "a timedelta",
    "decimal.Decimal": "a Decimal", "fractions.Fraction": "a Fraction", "pathlib.Path": "a path",
    "uuid.uuid1": "a UUID", "uuid.uuid3": "a UUID", "uuid.uuid4": "a UUID", "uuid.uuid5": "a UUID",
    "uuid.UUID": "a UUID", "io.BytesIO": "a buffer",
    "io.StringIO": "a buffer", "collections.deque": "a deque", "PIL.Image.open": "an image",
    "PIL.Image.new": "an image", "PIL.Image.fromarray": "an image", "re.compile": "a pattern", "re.match": "a match",
}  # fmt: skip
"""What a call makes, where JSON has nothing like it."""

_ARRAYS: Final = frozenset({
    "array", "asarray", "zeros", "ones", "empty", "full", "arange", "linspace", "eye", "frombuffer", "fromiter",
    "stack", "concatenate", "vstack", "hstack", "zeros_like", "ones_like", "tensor", "as_tensor", "from_numpy", "rand",
    "randn",
})  # fmt: skip
_FRAMES: Final = frozenset({
    "DataFrame", "Series", "read_csv", "read_parquet", "read_json", "read_excel", "read_sql", "concat", "merge",
    "to_datetime", "Timestamp", "Timedelta",
})  # fmt: skip
_JSON_BASES: Final = frozenset({"Protocol", "Generic", "object", "ABC"})


def check(module: Module, remote: Remote) -> Iterator[Finding]:
    """The findings of one remote function."""
    for function in remote.methods:
        if isinstance(remote.node, ast.ClassDef) and function.name.startswith("_"):
            continue
        values = _assigned_once(function)
        for node in own_nodes(function):
            if isinstance(node, ast.Return) and node.value is not None:
                yield from _found(module, function, node.value, values)


def _found(module: Module, function: Function, value: ast.expr, values: dict[str, ast.expr]) -> Iterator[Finding]:
    for place in _leaves(value):
        source = values.get(place.id, place) if isinstance(place, ast.Name) else place
        if kind := _kind(module, function, source):
            yield module.source.finding(
                "FL203",
                place,
                f"{function.name} returns {kind}, which is not JSON",
                "Python callers get it; over HTTP and on the command line it cannot be shown",
                _MENDS.get(kind, "return text, numbers, lists and dicts made from it"),
            )


_MENDS: Final = {
    "a datetime": "return it as text: .isoformat()",
    "a date": "return it as text: .isoformat()",
    "a set": "return a list: sorted(…)",
    "an array": "return a list: .tolist()",
    "a table": 'return records: .to_dict(orient="records")',
    "bytes": "return text: base64.b64encode(…).decode()",
    "a generator": "return a list, or yield from the function itself",
}


def _leaves(value: ast.expr) -> Iterator[ast.expr]:
    """The values in what dicts, lists and conditions show."""
    if isinstance(value, ast.Dict):
        inner: list[ast.expr] = value.values
    elif isinstance(value, (ast.List, ast.Tuple)):
        inner = value.elts
    elif isinstance(value, ast.IfExp):
        inner = [value.body, value.orelse]
    elif isinstance(value, (ast.ListComp, ast.DictComp)):
        inner = [value.value if isinstance(value, ast.DictComp) else value.elt]
    else:
        yield value
        return
    for one in inner:
        yield from _leaves(one)


def _kind(module: Module, function: Function, value: ast.expr) -> str:
    """What an expression is certain to give, if that is not JSON; else ""."""
    if isinstance(value, (ast.Set, ast.SetComp)):
        return "a set"
    if isinstance(value, ast.Lambda):
        return "a function"
    if isinstance(value, ast.GeneratorExp):
        return "a generator"
    if isinstance(value, ast.Constant) and isinstance(value.value, (bytes, complex)):
        return "bytes" if isinstance(value.value, bytes) else "a complex number"
    return _made(module, function, value.func) if isinstance(value, ast.Call) else ""


def _made(module: Module, function: Function, called: ast.expr) -> str:
    if isinstance(called, ast.Name) and called.id in _parameters(function):
        return ""
    name = module.dotted(called)
    top, _, last = name.partition(".")
    last = last.rpartition(".")[2]
    if top in ("numpy", "torch", "cupy", "jax") and last in _ARRAYS:
        return "an array"
    if top in ("pandas", "polars") and last in _FRAMES:
        return "a table"
    if isinstance(called, ast.Name) and (defined := _class(module, function, called.id)) is not None:
        return f"an instance of {defined.name}" if _is_bare(defined) else ""
    return _MADE.get(name, "")


def _class(module: Module, function: Function, name: str) -> ast.ClassDef | None:
    inside = (node for node in own_nodes(function) if isinstance(node, ast.ClassDef) and node.name == name)
    found = next(inside, None) or getattr(module.names.get(name), "node", None)
    return found if isinstance(found, ast.ClassDef) else None


def _is_bare(node: ast.ClassDef) -> bool:
    """Whether nothing could make a class count as JSON: no decorator, and no base that matters."""
    bases = {getattr(base, "id", getattr(base, "attr", "?")) for base in node.bases}
    return not node.decorator_list and not node.keywords and bases <= _JSON_BASES


def _parameters(function: Function) -> set[str]:
    given = function.args
    return {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}


def _assigned_once(function: Function) -> dict[str, ast.expr]:
    """Locals that have one value, whatever way the function takes."""
    counts: dict[str, int] = {}
    values: dict[str, ast.expr] = {}
    for node in own_nodes(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
    return {
        name: value for name, value in values.items() if counts.get(name) == 1 and name not in _parameters(function)
    }
