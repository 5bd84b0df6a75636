"""Types as JSON Schema: those of the standard library by ourselves, models by the Pydantic that they brought along."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from runpod_flash.payload import conversion, models

Json = dict[str, Any]

_SIMPLE: Final[dict[Any, Json]] = {
    str: {"type": "string"},
    bytes: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    decimal.Decimal: {"type": "number"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "number", "description": "seconds"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    pathlib.Path: {"type": "string"},
}


def of(annotation: Any, above: tuple[Any, ...] = ()) -> Json:
    """The schema of one type, without references: where it comes back to itself (`above`), an object of any kind."""
    annotation = conversion.unwrapped(annotation)
    if any(annotation is one for one in above):
        return {"type": "object"}
    above = (*above, annotation)
    if (form := _form(annotation)) is not None:
        return form(annotation, above)
    if conversion.is_anything(annotation) or isinstance(annotation, str):
        return {}
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    if models.is_model(annotation):
        return inlined(models.schema_of(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return {"enum": [member.value for member in annotation], "title": annotation.__name__}
    return _record(annotation, above) if conversion.is_record(annotation) else {}


def inlined(schema: Json) -> Json:
    """A schema with what it refers to in the places of the references."""
    known = {**schema.get("$defs", {}), **schema.get("definitions", {})}

    def replaced(value: Any, above: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [replaced(one, above) for one in value]
        if not isinstance(value, dict):
            return value
        if isinstance(name := value.get("$ref"), str):
            name = name.rpartition("/")[2]
            return {"type": "object", "title": name} if name in above else replaced(known[name], (*above, name))
        return {key: replaced(one, above) for key, one in value.items() if key not in ("$defs", "definitions")}

    whole: Json = replaced(schema, ())
    return whole


def _form(annotation: Any) -> Callable[[Any, tuple[Any, ...]], Json] | None:
    origin = get_origin(annotation) or annotation
    if origin is Annotated:
        return _annotated
    if origin is Literal:
        return lambda one, above: {"enum": list(get_args(one))}
    if origin in conversion.UNIONS:
        return lambda one, above: {"anyOf": [of(member, above) for member in get_args(one)]}
    if origin in conversion.DICTS:
        return lambda one, above: {"type": "object", "additionalProperties": of((*get_args(one), Any, Any)[1], above)}
    if origin in (*conversion.LISTS, tuple):
        return _array
    if origin in conversion.SETS:
        return lambda one, above: {**_array(one, above), "uniqueItems": True}
    return None


def _annotated(annotation: Any, above: tuple[Any, ...]) -> Json:
    if not any(
        hasattr(one, "__get_pydantic_core_schema__") or hasattr(one, "metadata") for one in annotation.__metadata__
    ):
        return of(get_args(annotation)[0], above)
    try:
        return inlined(models.schema_of(annotation))
    except ImportError:
        return of(get_args(annotation)[0], above)


def _array(annotation: Any, above: tuple[Any, ...]) -> Json:
    kinds = get_args(annotation) or (Any,)
    fixed = get_origin(annotation) is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis)
    if fixed:
        return {"type": "array", "prefixItems": [of(one, above) for one in kinds], "minItems": len(kinds)}
    return {"type": "array", "items": of(kinds[0], above)}


def _record(kind: Any, above: tuple[Any, ...]) -> Json:
    fields = conversion.fields_of(kind)
    found: Json = {
        "type": "object",
        "title": kind.__name__,
        "properties": {name: of(hint, above) for name, (hint, _required) in fields.items()},
    }
    if needed := [name for name, (_hint, required) in fields.items() if required]:
        found["required"] = needed
    return found
