"""Pydantic, where the user's environment has it: its models, and types that only it can read.

It is never ours to import at will: a model that a function names has brought it along, and an annotation with
constraints was written for it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any, cast

from runpod_flash.payload.scalars import Convert, Invalid, Place


def is_model(kind: Any) -> bool:
    """Whether it is a model, of Pydantic 2 or 1."""
    return isinstance(kind, type) and (_is_second(kind) or _is_first(kind))


def convert_model(kind: Any) -> Convert:
    """How a value becomes that model."""
    return _translated(kind.model_validate if _is_second(kind) else kind.parse_obj)


def convert_any(annotation: Any) -> Convert | None:
    """How Pydantic would read it; None if there is no Pydantic, or it knows no way either."""
    try:
        return _translated(importlib.import_module("pydantic").TypeAdapter(annotation).validate_python)
    except Exception:  # noqa: BLE001 - not installed, version 1, or a type it refuses, each in its own way
        return None


def plain(model: Any) -> Any:
    """A model as JSON has it, under the names by which it is also read."""
    return (
        model.model_dump(mode="json", by_alias=True)
        if _is_second(type(model))
        else json.loads(model.json(by_alias=True))
    )


def schema_of(annotation: Any) -> dict[str, Any]:
    """What Pydantic says of it as JSON Schema; raises whatever is in its way."""
    if is_model(annotation):
        made = annotation.model_json_schema() if _is_second(annotation) else annotation.schema()
    else:
        made = importlib.import_module("pydantic").TypeAdapter(annotation).json_schema()
    return cast("dict[str, Any]", made)


def _is_second(kind: type) -> bool:
    return hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate")


def _is_first(kind: type) -> bool:
    return hasattr(kind, "__fields__") and hasattr(kind, "parse_obj") and not _is_second(kind)


def _translated(validate: Callable[[Any], Any]) -> Convert:
    def convert(value: Any, place: Place) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            if not hasattr(error, "errors"):
                raise
            raise Invalid([_fact(one, place) for one in error.errors()]) from None

    return convert


def _fact(error: dict[str, Any], place: Place) -> dict[str, Any]:
    """Without the input, which may be a secret, and without addresses of its own documentation."""
    return {"type": error["type"], "loc": [*place, *error["loc"]], "msg": error["msg"]}
