"""Rules on names from outside a remote function: undefined, changed, secret, unable to travel, or just outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from runpod_flash.analysis import modules
from runpod_flash.analysis.bindings import Binding
from runpod_flash.analysis.facts import Mutation, Use
from runpod_flash.analysis.secrets import sounds_secret
from runpod_flash.check.finding import Finding
from runpod_flash.check.module import Function, Module, Remote
from runpod_flash.check.packages import Packages
from runpod_flash.check.reach import Part, Reach
from runpod_flash.check.repairs import MoveImport, PlainImport, bound_by, import_line
from runpod_flash.errors import did_you_mean

_HANDLES: Final = {
    "open": "an open file",
    "io.open": "an open file",
    "tempfile.TemporaryFile": "an open file",
    "tempfile.NamedTemporaryFile": "an open file",
    "threading.Lock": "a lock",
    "threading.RLock": "a lock",
    "threading.Condition": "a lock",
    "threading.Semaphore": "a lock",
    "threading.Event": "an event of threads",
    "threading.Thread": "a thread",
    "threading.local": "storage of threads",
    "multiprocessing.Lock": "a lock",
    "multiprocessing.Process": "a process",
    "multiprocessing.Pool": "a pool of processes",
    "subprocess.Popen": "a process",
    "concurrent.futures.ThreadPoolExecutor": "a pool of threads",
    "concurrent.futures.ProcessPoolExecutor": "a pool of processes",
    "socket.socket": "a socket",
    "socket.create_connection": "a socket",
    "sqlite3.connect": "a database connection",
    "psycopg.connect": "a database connection",
    "psycopg2.connect": "a database connection",
    "pymysql.connect": "a database connection",
    "MySQLdb.connect": "a database connection",
}
"""What cannot be pickled, by what makes it."""

_GIVE_TEXT: Final = frozenset({"strip", "read_text", "read", "decode", "format", "join"})
_CONTAINERS: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_CONTAINER_CALLS: Final = frozenset({
    "list", "dict", "set", "bytearray", "collections.deque", "collections.defaultdict", "collections.Counter",
    "collections.OrderedDict",
})  # fmt: skip


def check(module: Module, remote: Remote, reach: Reach, packages: Packages) -> Iterator[Finding]:
    """The findings of one remote function."""
    runs_elsewhere = not packages.runs_here
    for part, use, binding in reach.uses():
        if binding is None:
            place = part.place(use.name, use.lines[0])
            if not reach.may_be_defined(use.name) and not (use.guarded and _is_expected(module, place)):
                yield _undefined(module, reach, part, use, place)
        elif runs_elsewhere and use.name not in module.remote_names:
            yield from _captured(module, part, use, binding, packages)
    if runs_elsewhere:
        for part in reach.parts:
            if part.direct:
                yield from _own_modules(module, part, packages)
                for mutation in part.facts.mutations:
                    yield from _changed(module, reach, part, mutation, packages)


def _is_expected(module: Module, place: ast.AST) -> bool:
    """Whether a `try` around a place waits for this very error; `except Exception` is there for others."""
    parent = module.parents.get(place)
    while parent is not None:
        if isinstance(parent, ast.Try):
            caught = [one for handler in parent.handlers if handler.type for one in ast.walk(handler.type)]
            if any(isinstance(one, ast.Name) and one.id == "NameError" for one in caught):
                return True
        parent = module.parents.get(parent)
    return False


def _undefined(module: Module, reach: Reach, part: Part, use: Use, place: ast.AST) -> Finding:
    known = {*module.names, *part.facts.bound} - {reach.remote.name, part.facts.name}
    meant = did_you_mean(use.name, sorted(known))
    helper = "" if part.direct else f", which {reach.remote.name} uses"
    return module.source.finding(
        "FL101",
        place,
        f"the name {use.name!r} is defined nowhere{'.' * bool(meant)}{meant}",
        f"{part.facts.name}{helper} would fail with a NameError",
        f"define or import {use.name} inside {part.facts.name}",
    )


def _captured(module: Module, part: Part, use: Use, binding: Binding, packages: Packages) -> Iterator[Finding]:
    place = part.place(use.name, use.lines[0])
    value = _value(binding)
    if kind := _handle(module, value):
        yield module.source.finding(
            "FL107",
            place,
            f"{use.name!r} is {kind}, which cannot travel",
            f"line {binding.line} makes it in this process, and no other can use it",
            f"make it inside {part.facts.name}",
        )
    elif binding.kind == "value" and sounds_secret(use.name) and _is_text(module, value):
        yield module.source.finding(
            "FL106",
            place,
            f"{use.name!r} sounds like a secret, and would be stored with the function",
            f"line {binding.line} assigns it, and captured values are kept on disk",
            f'write env={{"{use.name.upper()}": None}} in @remote, and read os.environ["{use.name.upper()}"] inside',
        )
    elif part.direct:
        yield _outside(module, part, use, binding, place, packages)


def _outside(module: Module, part: Part, use: Use, binding: Binding, place: ast.AST, packages: Packages) -> Finding:
    if not _is_others_module(module, binding, packages):
        what = {"import": "imported", "function": "a function", "class": "a class"}.get(binding.kind, "assigned")
        return module.source.finding(
            "FL108",
            place,
            f"{use.name!r} comes from outside {part.facts.name} ({what} in line {binding.line})",
            "it travels with the function, as it is at the first call; FLASH_SCOPE=strict refuses it",
            f"define it inside {part.facts.name}, or pass it as an argument",
        )
    standard = modules.is_standard(binding.module)
    statements = _plain_imports(module, use.name)
    lines = [
        import_line(alias, statement)
        for statement in statements
        for alias in statement.names
        if bound_by(alias, statement) == use.name
    ]
    found = module.source.finding(
        "FL110" if standard else "FL109",
        place,
        f"{use.name!r} is imported outside {part.facts.name}, in line {binding.line}",
        "the specification has imports inside; FLASH_SCOPE=strict refuses this"
        if standard
        else "whoever imports this file loads the package, also where only workers need it",
        f"write `{'; '.join(lines)}` inside {part.facts.name}" if lines else f"import it inside {part.facts.name}",
    )
    bodies = _bodies(module, part, use)
    return replace(found, repair=MoveImport(module, use.name, statements, bodies)) if lines and bodies else found


def _is_others_module(module: Module, binding: Binding, packages: Packages) -> bool:
    """Whether a name is bound by an absolute import, at the module's level, of what is neither ours nor the user's."""
    if binding.kind != "import" or binding.node not in module.source.tree.body or binding.module.startswith("."):
        return False
    return not modules.is_ours(binding.module) and not packages.is_own(binding.module)


def _own_modules(module: Module, part: Part, packages: Packages) -> Iterator[Finding]:
    for one in part.facts.imports:
        if one.level or packages.is_own(one.module):
            yield module.source.finding(
                "FL108",
                part.place("", one.line),
                f"{part.facts.name} imports {'.' * one.level}{one.module}, a module of your own",
                "its source travels with the function; FLASH_SCOPE=strict refuses it",
                f"define what {part.facts.name} needs of it inside",
            )


def _plain_imports(module: Module, name: str) -> tuple[PlainImport, ...]:
    """The imports that bind a name; none if anything else in the module does, too."""
    found: list[PlainImport] = []
    for node in module.imports:
        if name in [bound_by(alias, node) for alias in node.names] and not module.functions_around(node):
            if module.parents[node] is not module.source.tree or (isinstance(node, ast.ImportFrom) and node.level):
                return ()
            found.append(node)
    stored = (one for one in module.of(ast.Name) if one.id == name and not isinstance(one.ctx, ast.Load))
    defined = (one for one in module.definitions if one.name == name)
    if name in module.hidden_names or not all(module.scopes_around(one) for one in (*stored, *defined)):
        return ()
    return tuple(found)


def _bodies(module: Module, part: Part, use: Use) -> tuple[Function, ...]:
    """The functions whose bodies use a name: all of a class's methods that do; none if the class itself does."""
    if not isinstance(part.node, ast.ClassDef):
        return (part.node,)
    methods = [one for one in part.node.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
    using = {one: found for one in methods if (found := module.facts(one).use(use.name))}
    inside = {line for found in using.values() for line in found.lines}
    return tuple(using) if inside.issuperset(use.lines) else ()


def _changed(module: Module, reach: Reach, part: Part, change: Mutation, packages: Packages) -> Iterator[Finding]:
    binding = reach.binding(change.name)
    if binding is None or not _changes_a_copy(module, change, binding, packages):
        return
    yield module.source.finding(
        "FL105",
        part.place(change.name, change.line),
        f"`{change.text}` changes {change.name!r}, which comes from outside {part.facts.name}",
        "the worker has a copy of it, so nobody would see the change",
        f"return what is new, or keep {change.name} inside {part.facts.name}",
    )


def _changes_a_copy(module: Module, change: Mutation, binding: Binding, packages: Packages) -> bool:
    """As a call decides it with the value at hand; what the text does not show is let pass."""
    if change.how == "bind":
        return True
    if binding.kind == "import":  # a setting of somebody else's module is state of the process that runs it
        return isinstance(binding.node, ast.Import) and change.how == "attribute" and packages.is_own(binding.module)
    if change.how != "call":
        return True
    # A method named `update` changes a dict; of anything else nobody knows what it does.
    value = binding.value
    container = isinstance(value, _CONTAINERS) or (
        isinstance(value, ast.Call) and module.dotted(value.func) in _CONTAINER_CALLS
    )
    return container and all(step == "[]" for step in change.through)


def _value(binding: Binding) -> ast.expr | None:
    """What is assigned, also by `with … as name`."""
    if binding.value is None and isinstance(binding.node, (ast.With, ast.AsyncWith)):
        for item in binding.node.items:
            if isinstance(item.optional_vars, ast.Name) and item.optional_vars.id == binding.name:
                return item.context_expr
    return binding.value


def _handle(module: Module, value: ast.expr | None) -> str:
    if isinstance(value, ast.GeneratorExp):
        return "a generator"
    return _HANDLES.get(module.dotted(value.func), "") if isinstance(value, ast.Call) else ""


def _is_text(module: Module, value: ast.expr | None) -> bool:
    """Whether a value is certain to be text: written out, put together, or read from the environment or a file."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, (str, bytes)) and bool(value.value)
    if isinstance(value, ast.JoinedStr):
        return True
    if isinstance(value, ast.BinOp):
        return _is_text(module, value.left) or _is_text(module, value.right)
    if isinstance(value, ast.Subscript):
        return module.dotted(value.value) == "os.environ"
    if isinstance(value, ast.Call):
        called = value.func
        reads = isinstance(called, ast.Attribute) and called.attr in _GIVE_TEXT
        return reads or module.dotted(called) in ("os.getenv", "os.environ.get", "getpass.getpass", "str")
    return False
