"""Rules on what is declared: the arguments of `remote`, the fields of resources, routes.

Values that stand in the text are handed to the very code that a program would run, so the same words refuse them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

from runpod_flash.check.finding import Finding
from runpod_flash.check.module import RESOURCES, Module, Remote, argument, keyword_of
from runpod_flash.errors import FlashError, UsageError
from runpod_flash.model import hardware, options, resources, volumes
from runpod_flash.model.job import DEFAULT_MAX_RETRIES

UNKNOWN: Final = object()
"""The value of an expression that only running the program would tell."""

_ENUMS: Final = frozenset({
    "GpuGroup", "GpuType", "CpuInstanceType", "CudaVersion", "DataCenter", "ServerlessScalerType", "ServerlessType",
})  # fmt: skip
_VALUES: Final = frozenset({"NetworkVolume", "PodTemplate", "KeyValuePair"})
_CONSTRUCTED: Final = _VALUES.union(RESOURCES)
_MOST_POSITIONS: Final = ("resource_config", *options.OPTIONS[:6])
_QUEUE: Final = resources.CpuLiveServerless(name="any")
_BALANCED: Final = resources.CpuLiveLoadBalancer(name="any")


def check(module: Module) -> Iterator[Finding]:
    """The findings of a whole file."""
    if not module.uses_flash:
        return
    for node in module.of(ast.Call):
        if module.ours(node.func) in _CONSTRUCTED:
            yield from _constructed(module, node)
    for remote in module.remotes:
        yield from _declared(module, remote)
    yield from _shared_routes(module)


# ── values in the text ────────────────────────────────────────────────────────────────────────────


def evaluate(module: Module, node: ast.expr) -> Any:
    """What an expression of literals, constants of the file and our own names is; UNKNOWN for all others."""
    if isinstance(node, ast.Name):
        value = module.constants.get(node.id)
        return evaluate(module, value) if value is not None and not isinstance(value, ast.Name) else UNKNOWN
    if isinstance(node, ast.Attribute):
        return _member(module, node)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [evaluate(module, one) for one in node.elts]
        return UNKNOWN if any(one is UNKNOWN for one in items) else items
    if isinstance(node, ast.Dict):
        return _dict(module, node)
    if isinstance(node, ast.Call):
        return _build(module, node) if module.ours(node.func) in _VALUES else UNKNOWN
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN


def _member(module: Module, node: ast.Attribute) -> Any:
    """A member of one of our enums; None would be a wrong answer for one that it does not have."""
    kind = module.ours(node.value)
    return getattr(getattr(hardware, kind), node.attr, UNKNOWN) if kind in _ENUMS else UNKNOWN


def _dict(module: Module, node: ast.Dict) -> Any:
    keys = [evaluate(module, key) if key is not None else UNKNOWN for key in node.keys]
    values = [evaluate(module, value) for value in node.values]
    if any(one is UNKNOWN or isinstance(one, (list, dict)) for one in keys):
        return UNKNOWN
    # A variable whose value is unknown is text, as far as anybody can tell.
    return dict(zip(keys, ("…" if value is UNKNOWN else value for value in values), strict=True))


def _build(module: Module, call: ast.Call) -> Any:
    given = {keyword.arg: evaluate(module, keyword.value) for keyword in call.keywords if keyword.arg}
    if call.args or any(value is UNKNOWN for value in given.values()):
        return UNKNOWN
    try:
        return getattr(volumes, module.ours(call.func))(**given)
    except (FlashError, TypeError):  # said where that call is checked
        return UNKNOWN


# ── constructors ──────────────────────────────────────────────────────────────────────────────────


def _constructed(module: Module, call: ast.Call) -> Iterator[Finding]:
    name = module.ours(call.func)
    kind = getattr(resources, name) if name in RESOURCES else getattr(volumes, name)
    given = {keyword.arg: evaluate(module, keyword.value) for keyword in call.keywords if keyword.arg}
    given = {field: value for field, value in given.items() if value is not UNKNOWN}
    if _opens(call) or len(call.args) > (name in RESOURCES) or (call.args and isinstance(call.args[0], ast.Starred)):
        return
    if call.args or "name" in {keyword.arg for keyword in call.keywords}:
        said = evaluate(module, call.args[0]) if call.args else given.get("name", UNKNOWN)
        given["name"] = "unknown" if said is UNKNOWN else said
    while (error := _refused(lambda: kind(**given))) is not None:
        field = _field(error)
        yield _refusal(module, call, error, field)
        if field not in given or field == "name":
            return
        del given[field]  # and what else is wrong?
    if name in RESOURCES:
        yield from _always_on(module, call, name, given)


def _refused(make: Callable[..., object], *given: object) -> Exception | None:
    """Why something cannot be, in the words that a program would see."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(*given)
    except (FlashError, TypeError, ValueError) as error:
        return error
    return None


def _refusal(module: Module, call: ast.Call, error: Exception, field: str, code: str = "") -> Finding:
    keyword = keyword_of(call, field)
    what, why, fix = (error.what, error.why, error.fix) if isinstance(error, FlashError) else (str(error), None, None)
    unknown = isinstance(error, UsageError) and "has no " in what
    return module.source.finding(
        code or ("FL401" if unknown else "FL402"),
        keyword or call,
        what,
        why or "the file could not be imported",
        fix or (f"correct or delete {field}" if field else "correct it"),
    )


def _field(error: Exception) -> str:
    """The argument that a message is about."""
    found = re.search(r"has no (?:field|argument) '(\w+)'|(?:^|\()(\w+)=|^(\w+) contains", str(error))
    return next(filter(None, found.groups()), "") if found else ""


def _opens(call: ast.Call) -> bool:
    return any(keyword.arg is None for keyword in call.keywords)


def _always_on(module: Module, call: ast.Call, name: str, given: dict[str, Any]) -> Iterator[Finding]:
    keyword = keyword_of(call, "workersMin")
    if keyword is None or not isinstance(given.get("workersMin"), int) or given["workersMin"] < 1:
        return
    if issubclass(getattr(resources, name), resources.CpuFields):
        return
    yield module.source.finding(
        "FL407",
        keyword,
        f"workersMin={given['workersMin']} keeps a GPU busy while nobody calls",
        "its workers stay, and in a cloud are paid for, day and night",
        "write workersMin=0, and a longer idleTimeout against cold starts",
    )


# ── remote(…) ─────────────────────────────────────────────────────────────────────────────────────


def _declared(module: Module, remote: Remote) -> Iterator[Finding]:
    if remote.call is None:
        yield _no_resource(module, remote, remote.node.decorator_list[0])
        return
    call = remote.call
    if argument(call, "resource_config", 0) is None and not _opens(call) and not call.args:
        yield _no_resource(module, remote, call)
    for keyword in call.keywords:
        if keyword.arg and (error := _refused(options.check_known, keyword.arg)):
            yield _refusal(module, call, error, keyword.arg)
    yield from _values(module, remote, call)


def _no_resource(module: Module, remote: Remote, place: ast.AST) -> Finding:
    return module.source.finding(
        "FL405",
        place,
        f"remote has no resource for {remote.name}",
        "it says what the function runs on, so the file could not be imported",
        f'write @remote(resource_config=CpuLiveServerless(name="{remote.name}"))',
    )


def _values(module: Module, remote: Remote, call: ast.Call) -> Iterator[Finding]:
    is_queue = module.is_queue(remote)
    resource: resources.Resource = _BALANCED if is_queue is False else _QUEUE
    for name, read in _READERS.items():
        node = argument(call, name, _MOST_POSITIONS.index(name) if name in _MOST_POSITIONS else None)
        value = evaluate(module, node) if node is not None else UNKNOWN
        if value is UNKNOWN:
            continue
        asked = _BALANCED if is_queue is None and name in _ROUTE else resource
        if error := _refused(read, asked, value):
            yield _refusal(module, call, error, name, "FL403" if name in _ROUTE else "")
        elif name == "max_retries" and is_queue is False and value:
            yield _no_effect(module, keyword_of(call, name) or call, value)
    if is_queue is False:
        path = "/given" if argument(call, "path") else None
        if error := _refused(options.check_default_path, _BALANCED, path, remote.node.name):
            yield _refusal(module, call, error, "", "FL403")


_ROUTE: Final = ("method", "path")
_READERS: Final[dict[str, Callable[[resources.Resource, Any], object]]] = {
    "dependencies": lambda _, value: options.read_requirements(value),
    "system_dependencies": lambda _, value: options.read_packages(value),
    "accelerate_downloads": lambda _, value: options.check_flag("accelerate_downloads", value),
    "env": lambda _, value: volumes.read_env(value, "@remote"),
    "max_retries": lambda resource, value: options.read_policy(resource, value, None),
    "timeout": lambda resource, value: options.read_policy(resource, DEFAULT_MAX_RETRIES, value),
    "local": lambda _, value: options.check_flag("local", value),
    "method": options.read_method,
    "path": options.read_path,
}


def _no_effect(module: Module, place: ast.AST, value: object) -> Finding:
    return module.source.finding(
        "FL406",
        place,
        f"max_retries={value} has no effect on a load-balanced resource",
        "only calls on a queue are retried",
        "leave it out, or use a queue-based resource",
    )


# ── routes ────────────────────────────────────────────────────────────────────────────────────────


def _shared_routes(module: Module) -> Iterator[Finding]:
    taken: dict[tuple[str, str, str], Remote] = {}
    for remote in module.remotes:
        route = _route(module, remote)
        if route is None:
            continue
        first = taken.setdefault(route, remote)
        if first.node.name != remote.node.name:  # the same function again replaces itself, as in a notebook
            yield module.source.finding(
                "FL404",
                remote.call or remote.node,
                f"{remote.name} has the route {route[1]} {route[2]} of {first.name} (line {first.node.lineno})",
                "both are on one endpoint, and a route leads to one function",
                f'write another path, such as path="/{remote.name}"',
            )


def _route(module: Module, remote: Remote) -> tuple[str, str, str] | None:
    """Endpoint, method and path of a load-balanced function, if the text says all three."""
    resource, call = module.resource(remote), remote.call
    if resource is None or call is None or module.is_queue(remote) is not False or _opens(call):
        return None
    name = _text(module, argument(resource, "name", 0), "")
    method = _text(module, argument(call, "method"), "POST")
    path = _text(module, argument(call, "path"), f"/{remote.node.name}")
    return (name, method.upper(), path) if name and method and path else None


def _text(module: Module, node: ast.expr | None, default: str) -> str:
    """What an argument says; "" if that is no text, or unknown."""
    value = default if node is None else evaluate(module, node)
    return value if isinstance(value, str) else ""
