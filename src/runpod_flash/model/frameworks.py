"""What FastAPI and Pydantic are told about JobOutput, without importing either: they are there or not.

A job that completed is shown as its output. One that failed is a 500 with the job's id and no internals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final, get_args, get_origin

FASTAPI: Final = "fastapi.routing"
"""The module of which `teach` has something to tell, once it is loaded."""
_taught = False


def teach(kind: type[Any], unknown: tuple[type[Any], ...]) -> None:
    """Tell FastAPI, which is loaded or being loaded, how to show a `kind`, also in the forms that are `unknown` to it.

    Cheap enough to be called for every job.
    """
    global _taught
    if _taught:
        return
    encoders, routing = sys.modules.get("fastapi.encoders"), sys.modules[FASTAPI]
    if hasattr(routing, "APIRouter") and encoders is not None:  # else another thread is still importing it
        _teach_encoder(encoders, unknown)
        _teach_routes(routing, kind)
        _taught = True


def _teach_encoder(encoders: ModuleType, unknown: tuple[type[Any], ...]) -> None:
    """For jobs anywhere in an answer of a route without a response model."""

    def encode(job: Any) -> Any:
        _refuse_failed(job)
        return encoders.jsonable_encoder(job.output)

    encoders.ENCODERS_BY_TYPE.update(dict.fromkeys(unknown, encode))


def _teach_routes(routing: ModuleType, kind: type[Any]) -> None:
    """For a route that returns a failed job and has a response model.

    Pydantic reads such a model from attributes too, so one with the fields `id` and `status` would be a 200.
    No hook of Pydantic's comes before that, and FastAPI offers none: hence this one wrapper.
    """
    serialize = getattr(routing, "serialize_response", None)
    if serialize is None:
        return

    @wraps(serialize)
    async def serialize_response(*args: Any, **kwargs: Any) -> Any:
        content = kwargs.get("response_content")
        if isinstance(content, kind):
            _refuse_failed(content)
            if not _mentions(_annotation(kwargs.get("field")), kind):
                kwargs["response_content"] = content.output
        return await serialize(*args, **kwargs)

    routing.serialize_response = serialize_response  # type: ignore[attr-defined]  # a name that it does not export


def _annotation(field: Any) -> Any:
    return getattr(getattr(field, "field_info", None), "annotation", None)


def _mentions(annotation: Any, kind: type[Any]) -> bool:
    """Whether a response model asks for the job itself: `JobOutput[R]`, `JobOutput[R] | None`."""
    parts = (get_origin(annotation), *get_args(annotation))
    return annotation is kind or any(_mentions(part, kind) for part in parts if part is not None)


def _refuse_failed(job: Any) -> None:
    if job.error is not None:
        raise sys.modules["fastapi"].HTTPException(500, f"job {job.id} ended {job.status}")


def pydantic_serializer(output_of: Callable[[Any], Any]) -> Any:
    """A serializer of Pydantic's that writes a job as its output."""
    core: Any = sys.modules.get("pydantic_core")
    if core is None:
        raise AttributeError("__pydantic_serializer__")
    return core.SchemaSerializer({"type": "any", "serialization": _as_output(output_of)})


def pydantic_schema(kind: type[Any], output_of: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema, in the plain dicts that Pydantic's core reads, of a field that holds a job."""
    return {"type": "is-instance", "cls": kind, "serialization": _as_output(output_of)}


def _as_output(output_of: Callable[[Any], Any]) -> dict[str, Any]:
    return {"type": "function-plain", "function": output_of, "return_schema": {"type": "any"}}
