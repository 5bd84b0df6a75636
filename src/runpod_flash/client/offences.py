"""What in a function's scope cannot travel, each with what it is, where, and the mend."""

from __future__ import annotations

import builtins
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from runpod_flash.analysis.distributions import covers, likely_name, provider
from runpod_flash.analysis.facts import Facts, Mutation, Use
from runpod_flash.analysis.modules import find
from runpod_flash.analysis.secrets import sounds_secret
from runpod_flash.client import places
from runpod_flash.client.captures import MISSING, MOST_DATA, Capture, contents, plain_size, too_large
from runpod_flash.client.classes import RemoteClass
from runpod_flash.client.function import RemoteFunction
from runpod_flash.client.imports import Wanted, in_body
from runpod_flash.client.scope import Scope
from runpod_flash.client.source import source_of
from runpod_flash.errors import suggestion
from runpod_flash.payload.explain import Obstacle, obstacle
from runpod_flash.payload.ownership import is_users_own
from runpod_flash.payload.pickler import global_names


@dataclass(frozen=True, slots=True)
class Offence:
    """One name, and why a function that uses it cannot be sent."""

    name: str
    what: str
    mend: str
    used: tuple[str, ...] = ()
    defined: str = ""


def in_names(scope: Scope) -> Iterator[Offence]:
    """Names defined nowhere, secrets, changes of copies: what needs no pickling to be seen."""
    for function, way in scope.functions:
        if way == "called" and _is_users(function):
            yield from _undefined(function)
    for capture in scope.captures:
        yield from _secrets(capture)
        if too_large(capture.value):
            yield _large(capture, None)
        elif _on_gpu(capture.value):
            yield _of_capture(capture, f"a {type(capture.value).__name__} in the memory of a GPU", _MAKE_IT_THERE)
    yield from _changes(scope)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def _undefined(function: types.FunctionType) -> Iterator[Offence]:
    facts = source_of(function.__code__).facts
    assigned = {change.name for change in facts.mutations if change.how == "bind"}
    # The code says what is really asked for: its text may be another by now.
    asked = {*global_names(function.__code__), *function.__code__.co_freevars}
    for use in facts.uses:
        if use.guarded or use.name in assigned or use.name not in asked:
            continue
        if value_of(function, use.name) is MISSING:
            yield _nowhere(function, facts, use)


def _nowhere(function: types.FunctionType, facts: Facts, use: Use) -> Offence:
    used = places.lines(function.__code__.co_filename, use.lines)
    if use.name in function.__code__.co_freevars:
        return Offence(use.name, "has no value yet", "assign it before the first call", used)
    known = {*function.__globals__, *facts.bound, *function.__code__.co_freevars}
    meant = suggestion(use.name, [name for name in known if not name.startswith("__")])
    meant = meant or suggestion(use.name, filter(str.islower, dir(builtins)))
    if meant:
        return Offence(use.name, f"is defined nowhere. Did you mean {meant!r}?", f"write {meant}", used)
    return Offence(use.name, "is defined nowhere", "define it, or import it in the function", used)


def value_of(function: types.FunctionType, name: str) -> Any:
    """What a name from outside means in a function; MISSING if nothing."""
    code = function.__code__
    if name in code.co_freevars and function.__closure__ is not None:
        return contents(function.__closure__[code.co_freevars.index(name)])
    return function.__globals__.get(name, getattr(builtins, name, MISSING))


def _secrets(capture: Capture) -> Iterator[Offence]:
    if isinstance(capture.value, types.ModuleType):
        if is_users_own(capture.value):
            use = source_of(capture.owner.__code__).facts.use(capture.name)
            for member in use.members if use is not None else ():
                if _is_secret(member, vars(capture.value).get(member)):
                    yield _secret(capture, f"{capture.name}.{member}", member)
    elif _is_secret(capture.name, capture.value):
        yield _secret(capture, capture.name, capture.name)


def _is_secret(name: str, value: object) -> bool:
    holds = type(value).__name__ in ("SecretStr", "SecretBytes") or isinstance(value, (str, bytes))
    return holds and bool(value) and sounds_secret(name)


def _secret(capture: Capture, name: str, variable: str) -> Offence:
    variable = places.variable_of(capture.owner, capture.name) or variable.upper()
    mend = f'@remote(…, env={{"{variable}": None}}), and os.environ["{variable}"] in the function'
    return _of_capture(capture, "looks like a secret, which would be written to disk with the function", mend, name)


# ── changes ───────────────────────────────────────────────────────────────────────────────────────

_CHANGEABLE: Final = (list, dict, set, bytearray)


def _changes(scope: Scope) -> Iterator[Offence]:
    """Of what is called itself. A helper may keep a cache of its own: it lives in the worker."""
    unwrapped = map(inspect.unwrap, scope.entries)
    for function in dict.fromkeys((*scope.entries, *(one for one in unwrapped if isinstance(one, types.FunctionType)))):
        found: dict[str, list[Mutation]] = {}
        for change in source_of(function.__code__).facts.mutations:
            if _changes_a_copy(change, value_of(function, change.name)):
                found.setdefault(change.name, []).append(change)
        for name, changes in found.items():
            yield _change(function, name, changes)


def _changes_a_copy(change: Mutation, value: Any) -> bool:
    if value is MISSING:
        return False  # there is no original: it is the worker's own
    if change.how == "bind":
        return True
    if isinstance(value, types.ModuleType):
        return is_users_own(value)  # os.environ, numpy's settings: state of the process that runs it
    if change.how == "call":
        only_items = all(step == "[]" for step in change.through)
        return only_items and (isinstance(value, _CHANGEABLE) or type(value).__name__ == "deque")
    return True


def _change(function: types.FunctionType, name: str, changes: list[Mutation]) -> Offence:
    return Offence(
        name,
        f"is changed by it ({changes[0].text}): this would change a copy in the worker, which nobody sees",
        "return the value, or keep it inside the function",
        places.lines(function.__code__.co_filename, [change.line for change in changes]),
        places.definition(function, name),
    )


# ── values ────────────────────────────────────────────────────────────────────────────────────────

_MAKE_IT_THERE: Final = "make it inside the function, or pass a copy in main memory as an argument"
_PASS_IT: Final = "pass it as an argument, or let the function read it from a file"


def in_values(scope: Scope) -> Iterator[Offence]:
    """What cannot be pickled, found by pickling each capture alone: for when the whole could not be."""
    for capture in scope.captures:
        found = obstacle(capture.value) if _may_refuse(capture) else None
        if found is not None:
            yield _of_capture(capture, _held(capture.name, found), found.mend)
    for function, name, value in ((one, *default) for one in scope.entries for default in _defaults(one)):
        if (found := obstacle(value)) is not None:
            used = places.lines(function.__code__.co_filename, [function.__code__.co_firstlineno])
            yield Offence(name, f"has a default that {_held(name, found)}", found.mend, used)


def _may_refuse(capture: Capture) -> bool:
    """All but code of the user's. What a decorator of somebody else has made is told by the name that the user gave."""
    if not _is_users(capture.owner) or too_large(capture.value):
        return False
    if isinstance(capture.value, types.FunctionType):
        return not _is_users(capture.value)
    return capture.is_data or isinstance(capture.value, types.ModuleType)


def _held(name: str, found: Obstacle) -> str:
    return f"holds, at {name}{found.path}, {found.thing}" if found.path else f"is {found.thing}"


def _defaults(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code, given = function.__code__, function.__defaults__ or ()
    yield from zip(code.co_varnames[code.co_argcount - len(given) : code.co_argcount], given, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def in_sizes(scope: Scope, size_of: Callable[[Any], int]) -> Iterator[Offence]:
    """The largest captures, down to where the rest is small enough."""
    sizes: list[tuple[int, int, Capture]] = []
    for number, capture in enumerate(scope.captures):
        if capture.is_data or (isinstance(capture.value, types.ModuleType) and is_users_own(capture.value)):
            sizes.append((size_of(capture.value), number, capture))
    total = sum(size for size, _, _ in sizes)
    for size, _, capture in sorted(sizes, reverse=True):
        if total <= MOST_DATA:
            return
        total -= size
        yield _large(capture, size)


def _large(capture: Capture, size: int | None) -> Offence:
    size = size or plain_size(capture.value)
    said = f"{size / (1 << 20):.1f} MiB of data" if size else f"{len(capture.value):,} items of data"
    return _of_capture(capture, f"is {said}, and at most 1 MiB may travel with a function", _PASS_IT)


def _on_gpu(value: Any) -> bool:
    try:
        return getattr(value, "is_cuda", False) is True
    except Exception:  # noqa: BLE001 - an object of the user's
        return False


# ── modules ───────────────────────────────────────────────────────────────────────────────────────


def missing(modules: Iterable[Wanted], declared: Iterable[str]) -> Iterator[Offence]:
    """Imports that will find nothing in a worker."""
    lines: dict[str, list[Wanted]] = {}
    for one in modules:
        lines.setdefault(one.module, []).append(one)
    for module, wanted in lines.items():
        mend = f"{_declare(lines, declared)}, or catch the ImportError where it is imported"
        what = "is a module that is neither among its dependencies nor installed here"
        yield Offence(module, what, mend, tuple(places.line(one.file, one.line) for one in wanted))


def compiled(modules: Iterable[Wanted]) -> Iterator[Offence]:
    """The user's own modules without source."""
    for one in modules:
        mend = "install it here from an index or a file, and name it in dependencies"
        yield _of_import(one, "is a compiled module of yours", mend)


# ── by the letter ─────────────────────────────────────────────────────────────────────────────────


def of_the_letter(function: types.FunctionType, declared: tuple[str, ...]) -> Iterator[Offence]:
    """With scope = "strict": every name and every module that the function does not bring itself."""
    whole = inspect.unwrap(function)
    function = whole if isinstance(whole, types.FunctionType) else function
    for use in source_of(function.__code__).facts.uses:
        value = value_of(function, use.name)
        itself = isinstance(value, (RemoteFunction, RemoteClass)) or use.name == function.__name__
        if not (itself or use.name.startswith("__") or (use.builtin and value is getattr(builtins, use.name))):
            yield Offence(
                use.name,
                f"is {_called(value)} from outside the function",
                _import_of(use.name, value),
                places.lines(function.__code__.co_filename, use.lines),
                places.definition(function, use.name),
            )
    for one in in_body(function):
        place = find(one.module)
        if place is not None and place.owner == "own":
            mend = 'define what you need of it inside the function, or leave out scope = "strict"'
            yield _of_import(one, "is a module of your own", mend)
        elif place is not None and place.owner == "installed" and not covers(declared, one.module) and not one.optional:
            mend = _declare([one.module], declared)
            yield _of_import(one, "is a module that is not among its dependencies", mend)


def _of_import(one: Wanted, what: str, mend: str) -> Offence:
    return Offence(one.module, what, mend, (places.line(one.file, one.line),))


def _declare(modules: Iterable[str], declared: Iterable[str]) -> str:
    """The argument of `@remote` that brings modules."""
    needed = {module: provider(module) for module in modules}
    asked = [found.requirement if found is not None else likely_name(module) for module, found in needed.items()]
    listed = ", ".join(f'"{one}"' for one in dict.fromkeys((*declared, *asked)))
    return f"@remote(…, dependencies=[{listed}])"


def _called(value: object) -> str:
    if value is MISSING:
        return "a name"
    if isinstance(value, types.ModuleType):
        return "a module"
    if isinstance(value, type):
        return "a class"
    return "a function" if callable(value) else "a value"


def _import_of(name: str, value: object) -> str:
    if isinstance(value, types.ModuleType):
        alias = "" if value.__name__ == name else f" as {name}"
        return f"write `import {value.__name__}{alias}` inside the function"
    return "define it inside the function, or pass it as an argument"


# ── where ─────────────────────────────────────────────────────────────────────────────────────────


def _of_capture(capture: Capture, what: str, mend: str, name: str = "") -> Offence:
    owner = capture.owner
    return Offence(
        name or capture.name, what, mend, places.uses(owner, capture.name), places.definition(owner, capture.name)
    )


def _is_users(function: types.FunctionType) -> bool:
    """Whether its names are the user's concern: a decorator of somebody else travels by value, too."""
    module = sys.modules.get(str(function.__globals__.get("__name__", "")))
    return module is None or is_users_own(module)
