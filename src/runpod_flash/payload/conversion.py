"""Values of a request as what the annotations of a function ask for.

`converter(annotation)` decides once how values are read; what it gives is called for each. Types of the standard
library are read here, models by Pydantic, and so is what only that knows.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, ForwardRef, Literal, TypeVar, Union, get_args, get_origin

from runpod_flash.payload import models
from runpod_flash.payload.scalars import (
    OF_TYPE,
    Convert,
    Invalid,
    Place,
    should_be,
    to_enum,
    to_literal,
    wrong,
)

LISTS: Final = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
SETS: Final = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
DICTS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
UNIONS: Final = (Union, types.UnionType)
ANYTHING: Final = (Any, object, inspect.Parameter.empty)


class Unreadable(Exception):
    """No value of a request can become that type; the message names it."""


def converter(annotation: Any) -> Convert:
    """How a value becomes what `annotation` says; Unreadable if there is no way."""
    found = _OF_FORM.get(get_origin(annotation)) or _simple
    return found(annotation)


def converter_with(annotation: Any, mark: Any) -> Convert:
    """The same where a mark of FastAPI's has constraints on the value, which only Pydantic reads."""
    if getattr(mark, "metadata", None):
        return models.convert_any(Annotated[annotation, mark]) or converter(annotation)
    return converter(annotation)


def unwrapped(annotation: Any) -> Any:
    """The type under NewType and names for types."""
    while True:
        if hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def is_anything(annotation: Any) -> bool:
    """Whether it leaves open what comes."""
    return any(annotation is one for one in ANYTHING)


def members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union; anything else alone. None is left out."""
    if get_origin(annotation) in UNIONS:
        return tuple(one for one in get_args(annotation) if one is not type(None))
    return (annotation,)


def fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Fields of a dataclass, TypedDict or NamedTuple: their types, and whether each must be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        return {
            field.name: (hints[field.name], _has_no_default(field)) for field in dataclasses.fields(kind) if field.init
        }
    if typing.is_typeddict(kind):
        return {name: (_unmarked(hint), name in kind.__required_keys__) for name, hint in hints.items()}
    return {name: (hints.get(name, Any), name not in kind._field_defaults) for name in kind._fields}


def is_record(kind: Any) -> bool:
    """Whether it has fields, and no Pydantic is needed to read them."""
    if not isinstance(kind, type):
        return False
    return dataclasses.is_dataclass(kind) or typing.is_typeddict(kind) or is_named_tuple(kind)


def is_named_tuple(kind: Any) -> bool:
    """Whether it is a class of tuples with named fields."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _unmarked(hint: Any) -> Any:
    """Python 3.10 leaves `Required` and `NotRequired` of typing_extensions in place."""
    origin = get_origin(hint)
    return get_args(hint)[0] if getattr(origin, "_name", "") in ("Required", "NotRequired") else hint


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    # By type: a class that travelled by value has a MISSING of its own.
    missing = type(dataclasses.MISSING)
    return isinstance(field.default, missing) and isinstance(field.default_factory, missing)


# ── one value ─────────────────────────────────────────────────────────────────────────────────────


def _simple(annotation: Any) -> Convert:
    if (inner := unwrapped(annotation)) is not annotation:
        return converter(inner)
    if isinstance(annotation, (TypeVar, str, ForwardRef)) or is_anything(annotation):
        return _as_it_is  # names that could not be found say nothing
    if get_origin(annotation) is not None or not isinstance(annotation, (type, type(None))):
        return _by_pydantic(annotation)
    if (bare := _BARE.get(annotation)) is not None:
        return converter(bare)
    if annotation in OF_TYPE:
        return OF_TYPE[annotation]
    if models.is_model(annotation):
        return models.convert_model(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return to_enum(annotation)
    if is_record(annotation) and not hasattr(annotation, "__pydantic_validator__"):
        return _record(annotation)
    return _by_pydantic(annotation)


def _as_it_is(value: Any, place: Place) -> Any:
    return value


def _by_pydantic(annotation: Any) -> Convert:
    found = models.convert_any(annotation)
    if found is None:
        raise Unreadable(f"nothing in a request can become {getattr(annotation, '__name__', annotation)!r}")
    return found


def _annotated(annotation: Any) -> Convert:
    return models.convert_any(annotation) or converter(get_args(annotation)[0])


def _union(annotation: Any) -> Convert:
    """The member whose type the value has already; otherwise the first that takes it, as text counts as nothing yet."""
    types_of = [one for one in get_args(annotation) if one is not type(None)]
    optional = len(types_of) < len(get_args(annotation))
    ways = [(one, converter(one)) for one in types_of]
    if len(ways) == 1:
        only = ways[0][1]
        return lambda value, place: None if value is None else only(value, place)

    def convert(value: Any, place: Place) -> Any:
        if value is None and optional:
            return None
        for kind, way in ways:
            if kind is type(value):
                return way(value, place)
        errors: list[dict[str, Any]] = []
        for kind, way in sorted(ways, key=lambda one: one[0] is str):
            try:
                return way(value, place)
            except Invalid as error:
                name = getattr(kind, "__name__", str(kind))
                errors += ({**one, "loc": [*place, name, *one["loc"][len(place) :]]} for one in error.errors)
        raise Invalid(errors)

    return convert


# ── many values ───────────────────────────────────────────────────────────────────────────────────


def _collection(make: Callable[[Iterable[Any]], Any], kind: str, what: str) -> Callable[[Any], Convert]:
    def of(annotation: Any) -> Convert:
        item = converter((*get_args(annotation), Any)[0])

        def convert(value: Any, place: Place) -> Any:
            if not isinstance(value, list):
                raise should_be(place, kind, what)
            return make(_all(((item, one, (*place, n)) for n, one in enumerate(value))))

        return convert

    return of


def _hashed(make: Callable[[Iterable[Any]], Any]) -> Callable[[Any], Convert]:
    plain = _collection(list, "set_type", "a valid set")

    def of(annotation: Any) -> Convert:
        listed = plain(annotation)

        def convert(value: Any, place: Place) -> Any:
            try:
                return make(listed(value, place))
            except TypeError:
                raise wrong(place, "set_item_not_hashable", "Set items should be hashable") from None

        return convert

    return of


def _tuple(annotation: Any) -> Convert:
    kinds = get_args(annotation)
    if not kinds or (len(kinds) == 2 and kinds[1] is Ellipsis):
        return _collection(tuple, "tuple_type", "a valid tuple")(annotation)
    ways = [converter(one) for one in kinds]

    def convert(value: Any, place: Place) -> Any:
        if not isinstance(value, list):
            raise should_be(place, "tuple_type", "a valid tuple")
        if len(value) != len(ways):
            kind = "too_long" if len(value) > len(ways) else "too_short"
            raise wrong(place, kind, f"Tuple should have {len(ways)} items, not {len(value)}")
        return tuple(_all((way, one, (*place, n)) for n, (way, one) in enumerate(zip(ways, value, strict=True))))

    return convert


def _dict(annotation: Any) -> Convert:
    key, item = map(converter, get_args(annotation) or (Any, Any))

    def convert(value: Any, place: Place) -> Any:
        if not isinstance(value, dict):
            raise should_be(place, "dict_type", "a valid dictionary")
        keys = _all((key, name, (*place, name, "[key]")) for name in value)
        return dict(zip(keys, _all((item, one, (*place, name)) for name, one in value.items()), strict=True))

    return convert


def _record(kind: Any) -> Convert:
    fields = {name: (converter(hint), required) for name, (hint, required) in fields_of(kind).items()}

    def convert(value: Any, place: Place) -> Any:
        if not isinstance(value, dict):
            raise should_be(place, "dataclass_type", f"an object, as {kind.__name__} has fields")
        missing = [name for name, (_way, required) in fields.items() if required and name not in value]
        if missing:
            raise Invalid([error for name in missing for error in wrong_missing((*place, name)).errors])
        names = [name for name in fields if name in value]
        found = dict(zip(names, _all((fields[name][0], value[name], (*place, name)) for name in names), strict=True))
        try:
            return kind(**found)
        except ValueError as error:  # its own checks
            raise wrong(place, "value_error", f"Value error, {error}") from None

    return convert


def wrong_missing(place: Place) -> Invalid:
    """Something that must be there is not."""
    return wrong(place, "missing", "Field required")


def _all(ways: Iterator[tuple[Convert, Any, Place]] | Iterable[tuple[Convert, Any, Place]]) -> list[Any]:
    """Every value as its type; what is wrong with each is told together."""
    found: list[Any] = []
    errors: list[dict[str, Any]] = []
    for way, value, place in ways:
        try:
            found.append(way(value, place))
        except Invalid as error:
            errors += error.errors
    if errors:
        raise Invalid(errors)
    return found


_BARE: Final[dict[Any, Any]] = {
    list: list[Any],
    dict: dict[Any, Any],
    set: set[Any],
    frozenset: frozenset[Any],
    tuple: tuple[Any, ...],
}
_OF_FORM: Final[dict[Any, Callable[[Any], Convert]]] = {
    Annotated: _annotated,
    Literal: lambda annotation: to_literal(get_args(annotation)),
    tuple: _tuple,
    **dict.fromkeys(UNIONS, _union),
    **dict.fromkeys(DICTS, _dict),
    **dict.fromkeys(LISTS, _collection(list, "list_type", "a valid list")),
    **dict.fromkeys(SETS, _hashed(set)),
    frozenset: _hashed(frozenset),
}
