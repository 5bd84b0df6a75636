"""A load-balanced function as OpenAPI describes it: an operation, read off its signature and docstring.

It is made where the function is declared, because only there are its types. Nothing of it is needed to call the
function, so what cannot be described is left out, and never in the way of a call.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, Final

from runpod_flash.client import json_schema
from runpod_flash.model.options import path_parameters
from runpod_flash.payload import parameters
from runpod_flash.payload.parameters import REQUIRED, Parameter, Parameters

_LARGEST: Final = 256 * 1024
_IN_HEAD: Final = (parameters.PATH, parameters.QUERY, parameters.HEADER, parameters.COOKIE)
_BINARY: Final = {"type": "string", "format": "binary"}
_ERRORS: Final = {
    "type": "object",
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
                "required": ["loc", "msg", "type"],
            },
        }
    },
}

Json = dict[str, Any]


def describe(function: Callable[..., Any], method: str, path: str) -> str:
    """The operation object as JSON text, without references; "" if there is none to be had."""
    try:
        text = json.dumps(_operation(function, method, path), separators=(",", ":"))
    except Exception:  # noqa: BLE001 - types of the user's, of any library, in any state
        return ""
    return text if len(text) <= _LARGEST else ""


def _operation(function: Callable[..., Any], method: str, path: str) -> Json:
    taken = parameters.read(function, method, path_parameters(path))
    found: Json = {}
    summary, _, description = (inspect.getdoc(function) or "").partition("\n")
    if summary:
        found["summary"] = summary
    if description.strip():
        found["description"] = description.strip()
    if listed := [_parameter(one) for one in taken.all if one.source in _IN_HEAD or _beside(one, taken)]:
        found["parameters"] = listed
    if body := _body(taken):
        found["requestBody"] = body
    found["responses"] = {"200": _response(function)}
    if listed or body:
        found["responses"]["422"] = {"description": "The request does not fit", "content": _as_json(_ERRORS)}
    return found


def _parameter(one: Parameter) -> Json:
    place = one.source if one.source in _IN_HEAD else parameters.QUERY
    return {"name": one.key, "in": place, "required": place == "path" or _needed(one), "schema": _schema(one)}


def _beside(one: Parameter, taken: Parameters) -> bool:
    """Whether it stands in the query because another parameter is the body."""
    return one.source == parameters.BODY and _is_body(taken) and one is not taken.whole


def _is_body(taken: Parameters) -> bool:
    return taken.whole is not None and (len(taken.body) > 1 or taken.whole.shape != "scalar")


def _body(taken: Parameters) -> Json | None:
    raw = next((one for one in taken.all if one.source == parameters.RAW), None)
    if raw is not None:
        return {"required": _needed(raw), "content": {"application/octet-stream": {"schema": _BINARY}}}
    if taken.is_form:
        fields = [one for one in taken.all if one.source in (parameters.FORM, parameters.FILE)]
        files = any(one.source == parameters.FILE for one in fields)
        media = "multipart/form-data" if files else "application/x-www-form-urlencoded"
        return {"required": any(map(_needed, fields)), "content": {media: {"schema": _object(fields)}}}
    if not taken.body:
        return None
    if _is_body(taken) and taken.whole is not None:
        return {"required": _needed(taken.whole), "content": _as_json(_schema(taken.whole))}
    return {"required": any(map(_needed, taken.body)), "content": _as_json(_object(taken.body))}


def _object(fields: list[Parameter] | tuple[Parameter, ...]) -> Json:
    found: Json = {"type": "object", "properties": {one.key: _schema(one) for one in fields}}
    if needed := [one.key for one in fields if _needed(one)]:
        found["required"] = needed
    return found


def _schema(one: Parameter) -> Json:
    if one.source == parameters.FILE:
        return {"type": "array", "items": _BINARY} if one.shape == "list" else _BINARY
    constrained = getattr(one.mark, "metadata", None)
    found = json_schema.of(Annotated[one.annotation, one.mark] if constrained else one.annotation)
    default = one.default
    if default is not REQUIRED and isinstance(default, (str, int, float, bool)):
        found = {**found, "default": default}
    return found


def _needed(one: Parameter) -> bool:
    return one.initial() is REQUIRED


def _response(function: Callable[..., Any]) -> Json:
    found: Json = {"description": "What the function returns"}
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return {"description": "What the function yields, item by item", "content": {"text/event-stream": {}}}
    returned = parameters.hints(function).get("return", Any)
    if returned is bytes:
        return {**found, "content": {"application/octet-stream": {"schema": _BINARY}}}
    if returned is Any or parameters.is_foreign_class(returned):
        return found
    return {**found, "content": _as_json(json_schema.of(returned))}


def _as_json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
