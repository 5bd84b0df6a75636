"""What an example says of itself without being run: its routes and their first lines, read from the source.

It is what index pages and tables show of examples that were not imported yet. Routes that are made in other ways than
by decorators show up once the example is loaded.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runpod_flash.apps.discovery import Example, Worker

_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "trace"})
_MOST_WORDS: Final = 240


@dataclass(frozen=True)
class Route:
    """One route: `path` as it stands below its example."""

    methods: str
    path: str
    summary: str = ""
    id: str = ""
    """Of its operation in OpenAPI; "" before the example is loaded."""


@dataclass(frozen=True)
class Outline:
    """What can be told of an example before it is loaded."""

    about: str = ""
    routes: tuple[Route, ...] = ()
    notes: tuple[str, ...] = ()
    """What its author should know, such as a router that nobody finds."""


def read_outline(example: Example) -> Outline:
    """Reads an example's sources. One that cannot be read has no routes here; importing it will say why."""
    routes: list[Route] = []
    notes: list[str] = []
    if example.main is not None:
        module = _Module.read(example.main)
        routes += module.routes_of({"app": ""})
    for worker in example.workers:
        module = _Module.read(worker.file)
        routes += module.routes_of({worker.router: f"/{worker.type}"})
        if (note := _note(worker, module)) and not module.unreadable:
            notes.append(note)
    return Outline(_about(example.folder / "README.md"), tuple(routes), tuple(notes))


def first_line(text: str | None) -> str:
    """The first line of a docstring, as a table shows it."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "")


def _note(worker: Worker, module: _Module) -> str:
    if worker.router in module.names:
        return ""
    place = "/".join(worker.file.parts[-3:] if worker.file.name == "__init__.py" else worker.file.parts[-1:])
    others = ", ".join(name for name in module.routers)
    if others:
        return f"{place} calls its router `{others}`; only `{worker.router}` is found"
    return f"{place} has no `{worker.router}`"


class _Module:
    """The top level of one source file."""

    def __init__(self, tree: ast.Module | None) -> None:
        self.unreadable = tree is None
        body = tree.body if tree is not None else []
        self.names = set(_bound(body))
        self.routers = dict(_made(body, {"APIRouter"}))
        self._apps = dict(_made(body, {"FastAPI"}))
        self._functions = [one for one in body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]

    @classmethod
    def read(cls, file: Path) -> _Module:
        try:
            return cls(ast.parse(file.read_bytes()))
        except (OSError, SyntaxError, ValueError, RecursionError):
            return cls(None)

    def routes_of(self, wanted: Mapping[str, str]) -> Iterator[Route]:
        """The routes of the routers of these names, each below its prefix."""
        prefixes = {name: wanted[name] + own for name, own in {**self.routers, **self._apps}.items() if name in wanted}
        for function in self._functions:
            for decorator in function.decorator_list:
                yield from _route(decorator, function, prefixes)


def _route(
    decorator: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef, prefixes: Mapping[str, str]
) -> Iterator[Route]:
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return
    owner, verb = decorator.func.value, decorator.func.attr
    if not isinstance(owner, ast.Name) or owner.id not in prefixes:
        return
    said = {keyword.arg: keyword.value for keyword in decorator.keywords if keyword.arg}
    path = _text(decorator.args[0] if decorator.args else said.get("path"))
    if path is None:
        return
    if verb in _METHODS:
        methods = verb.upper()
    elif verb == "api_route":
        methods = ", ".join(_texts(said.get("methods"))) or "GET"
    elif verb in ("websocket", "websocket_route"):
        methods = "WS"
    else:
        return
    yield Route(
        methods, prefixes[owner.id] + path, _text(said.get("summary")) or first_line(ast.get_docstring(function))
    )


def _bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that the top level binds, in whatever way."""
    for statement in body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        else:
            yield from (one.id for one in ast.walk(statement) if isinstance(one, ast.Name))


def _made(body: Iterable[ast.stmt], classes: set[str]) -> Iterator[tuple[str, str]]:
    """Names that are bound to a new object of one of these classes, and its prefix."""
    for statement in body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if not isinstance(target, ast.Name) or not isinstance(value, ast.Call):
            continue
        made = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        if made in classes:
            prefix = next((one.value for one in value.keywords if one.arg == "prefix"), None)
            yield target.id, _text(prefix) or ""


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _texts(node: ast.expr | None) -> list[str]:
    items = node.elts if isinstance(node, (ast.List, ast.Tuple, ast.Set)) else []
    return [text.upper() for item in items if (text := _text(item))]


def _about(readme: Path) -> str:
    """The first paragraph of a README: what stands between its title and whatever comes next."""
    try:
        text = readme.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return ""
    for paragraph in re.split(r"\n\s*\n", text):
        words = " ".join(paragraph.split())
        if words and not words.startswith(("#", "```", "<", "!", "[!", "|", "---")):
            plain = re.sub(r"[*_`]|\[([^\]]*)\]\([^)]*\)", lambda found: found[1] or "", words)
            return plain if len(plain) <= _MOST_WORDS else f"{plain[: _MOST_WORDS - 1].rsplit(' ', 1)[0]} …"
    return ""
