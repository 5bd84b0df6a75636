"""What a function takes when it is asked over HTTP, and from where: read off its signature, once.

The worker binds requests by this, and the caller's side describes it to whoever reads the documentation.

    named in the path            from there
    GET, DELETE, HEAD, OPTIONS   from the query
    other methods                from the JSON body, and what stands alone and is absent there from the query

What is annotated with a class of Starlette or FastAPI (`Request`, `UploadFile`), with `bytes`, or given one of
FastAPI's marks (`Header()`, `Form()`), says itself where it comes from.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

from runpod_flash.payload import conversion, models

PATH, QUERY, HEADER, COOKIE, BODY, FORM, FILE, RAW = "path", "query", "header", "cookie", "body", "form", "file", "raw"
REQUEST, RESPONSE, BACKGROUND, REST = "request", "response", "background", "rest"

WITHOUT_BODY: Final = frozenset({"GET", "DELETE", "HEAD", "OPTIONS"})
"""Methods whose parameters stand in the query."""
REQUIRED: Final = inspect.Parameter.empty
"""Stands for the default of what has none."""

_MARKS: Final = {
    "Path": PATH,
    "Query": QUERY,
    "Header": HEADER,
    "Cookie": COOKIE,
    "Body": BODY,
    "Form": FORM,
    "File": FILE,
}
_CLASSES: Final = {
    "Request": REQUEST,
    "HTTPConnection": REQUEST,
    "Response": RESPONSE,
    "BackgroundTasks": BACKGROUND,
    "UploadFile": FILE,
}
_FOREIGN: Final = ("fastapi", "starlette")


class Parameter(NamedTuple):
    """One parameter: what it is called in a request, where it stands there, and what it becomes."""

    name: str
    key: str
    source: str
    annotation: Any
    default: Any
    shape: str  # object, list, any, or scalar
    by_position: bool
    mark: Any = None  # FastAPI's, with constraints on the value

    def initial(self) -> Any:
        """The default; REQUIRED if there is none."""
        factory = getattr(self.mark, "default_factory", None)
        return factory() if callable(factory) else self.default


class Parameters(NamedTuple):
    """All of a function, in its order."""

    all: tuple[Parameter, ...]
    body: tuple[Parameter, ...]
    """Those that share the JSON body."""
    whole: Parameter | None
    """Of these the one that is the body itself, unless that names it."""
    rest: Parameter | None
    """`**names`: takes what no other parameter has taken."""
    is_form: bool
    """Whether the body is a form."""


def read(function: Callable[..., Any], method: str, in_path: Collection[str]) -> Parameters:
    """What `function` takes of requests with that method; `in_path` are the parameters of its path."""
    found = _marked(function, in_path)
    sources = {one.source for one in found}
    is_form = bool(sources & {FILE, FORM})
    usual = QUERY if method in WITHOUT_BODY or RAW in sources else FORM if is_form else BODY
    all_of = tuple(_at(one, usual, is_form=is_form) for one in found)
    body = tuple(one for one in all_of if one.source == BODY)
    rest = next((one for one in all_of if one.source == REST), None)
    return Parameters(all_of, body, _whole(body, rest), rest, is_form)


def of_input(function: Callable[..., Any]) -> Parameters:
    """What `function` takes of the input of a queued job: all by name, and what a body could be, the input could be."""
    found = tuple(one if one.source == REST else one._replace(source=BODY) for one in _marked(function, ()))
    body = tuple(one for one in found if one.source == BODY)
    rest = next((one for one in found if one.source == REST), None)
    return Parameters(found, body, _whole(body, rest), rest, False)


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations, text among them resolved as far as its names are known here."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - any of them may fail in any way; then each for itself
        return {name: _hint(function, name, one) for name, one in _annotations(function).items()}


def shape_of(annotation: Any) -> str:
    """How a value of that type looks in JSON: object, list, any or scalar."""
    annotation = conversion.unwrapped(annotation)
    if get_origin(annotation) is Annotated:
        return shape_of(get_args(annotation)[0])
    shapes = {_shape(one) for one in conversion.members(annotation)}
    return next(one for one in ("object", "any", "list", "scalar") if one in shapes)


def framework_class(annotation: Any, among: Collection[str]) -> type | None:
    """The class itself, if it is one of Starlette's or FastAPI's with such a name, or of a class derived from one."""
    for one in conversion.members(annotation):
        kind = get_args(one)[0] if get_origin(one) in (Annotated, *conversion.LISTS) and get_args(one) else one
        if isinstance(kind, type) and any(_is_foreign(base) and base.__name__ in among for base in kind.__mro__):
            return kind
    return None


def is_foreign_class(annotation: Any) -> bool:
    """Whether it is one of the classes of Starlette or FastAPI that a function may take, or any of their responses."""
    return framework_class(annotation, _CLASSES) is not None


# ── inside ────────────────────────────────────────────────────────────────────────────────────────


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return dict(inspect.unwrap(function).__annotations__)
    except (AttributeError, NameError):  # evaluated late, and naming what is not there
        return {}


def _hint(function: Callable[..., Any], name: str, hint: Any) -> Any:
    if not isinstance(hint, str):
        return hint
    function = inspect.unwrap(function)
    holder = types.SimpleNamespace(__annotations__={name: hint})
    try:
        closure = inspect.getclosurevars(function).nonlocals if isinstance(function, types.FunctionType) else {}
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}), dict(closure), include_extras=True)[
            name
        ]
    except Exception:  # noqa: BLE001 - a name for type checkers alone, or one that did not travel
        return hint


def _marked(function: Callable[..., Any], in_path: Collection[str]) -> list[Parameter]:
    known = hints(function)
    return [
        _parameter(one, known.get(one.name, Any), in_path)
        for one in inspect.signature(function).parameters.values()
        if one.kind is not one.VAR_POSITIONAL  # nothing in a request has a position
    ]


def _parameter(one: inspect.Parameter, annotation: Any, in_path: Collection[str]) -> Parameter:
    mark = _mark_of(one.default)
    default = one.default if mark is None else _default_of(mark)
    if mark is None and get_origin(annotation) is Annotated:
        mark = next((found for found in map(_mark_of, get_args(annotation)[1:]) if found is not None), None)
    source = REST if one.kind is one.VAR_KEYWORD else _source(one.name, annotation, mark, in_path)
    return Parameter(
        name=one.name,
        key=_key(one.name, source, mark),
        source=source,
        annotation=annotation,
        default=default,
        shape=shape_of(annotation),
        by_position=one.kind is one.POSITIONAL_ONLY,
        mark=mark,
    )


def _source(name: str, annotation: Any, mark: Any, in_path: Collection[str]) -> str:
    """Where it says itself that it comes from; "" where the method decides."""
    if mark is not None:
        return _kind_of_mark(mark)
    if name in in_path:
        return PATH
    kind = framework_class(annotation, _CLASSES)
    if kind is not None:
        return next(_CLASSES[base.__name__] for base in kind.__mro__ if base.__name__ in _CLASSES)
    return RAW if conversion.members(annotation) == (bytes,) else ""


def _at(one: Parameter, usual: str, *, is_form: bool) -> Parameter:
    if one.source == RAW and is_form:
        return one._replace(source=FILE)
    return one if one.source else one._replace(source=usual)


def _whole(body: tuple[Parameter, ...], rest: Parameter | None) -> Parameter | None:
    if len(body) == 1:
        return None if getattr(body[0].mark, "embed", None) or (rest and body[0].shape == "scalar") else body[0]
    others = [one for one in body if one.shape != "object"]
    if rest is not None or len(others) != len(body) - 1 or any(one.shape != "scalar" for one in others):
        return None
    return next(one for one in body if one.shape == "object")


def _shape(annotation: Any) -> str:
    annotation = conversion.unwrapped(annotation)
    origin = get_origin(annotation) or annotation
    if conversion.is_anything(annotation) or isinstance(annotation, (str, typing.TypeVar, typing.ForwardRef)):
        return "any"
    if origin in conversion.DICTS or models.is_model(annotation):
        return "object"
    if origin in (*conversion.LISTS, *conversion.SETS, tuple) or conversion.is_named_tuple(annotation):
        return "list" if not conversion.is_named_tuple(annotation) else "object"
    return "object" if conversion.is_record(annotation) else "scalar"


def _is_foreign(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _FOREIGN


def _kind_of_mark(value: Any) -> str:
    for kind in type(value).__mro__:
        if kind.__module__ == "fastapi.params" and kind.__name__ in _MARKS:
            return _MARKS[kind.__name__]
    return ""


def _mark_of(value: Any) -> Any:
    """One of FastAPI's marks, by its looks: nothing of FastAPI may be imported here."""
    return value if _kind_of_mark(value) else None


def _default_of(mark: Any) -> Any:
    default = mark.default
    return REQUIRED if default is Ellipsis or type(default).__name__ == "PydanticUndefinedType" else default


def _key(name: str, source: str, mark: Any) -> str:
    alias = getattr(mark, "alias", None)
    if isinstance(alias, str):
        return alias.lower() if source == HEADER else alias
    if source == HEADER and getattr(mark, "convert_underscores", True):
        return name.replace("_", "-")
    return name
