"""Bodies that are forms, and the files in them.

Forms in parts are read by Starlette and python-multipart of the user's environment: who takes an `UploadFile` has the
one, and is told of the other.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, get_args

from runpod_flash.payload import conversion, parameters
from runpod_flash.payload.parameters import Parameter
from runpod_flash.payload.scalars import OF_TYPE, Convert, Place, should_be, wrong
from runpod_flash.worker.http import asgi
from runpod_flash.worker.http.request import FORM_TYPES, Fields, Request, WrongType, fields


class MissingPackage(Exception):
    """Something that the user's function has to declare."""


async def read(request: Request) -> Fields:
    """The fields of a form; of a body that is none, nothing."""
    if request.media_type == FORM_TYPES[1]:
        return await _parts(request)
    data = await request.body.read()
    if request.media_type == FORM_TYPES[0] or not data:
        return fields(data.decode("utf-8", "replace"))
    raise WrongType(f"the body is {request.media_type or 'of no said type'}, and this function takes a form")


async def _parts(request: Request) -> Fields:
    for package, modules in (("fastapi", ("starlette",)), ("python-multipart", ("python_multipart", "multipart"))):
        if not any(importlib.util.find_spec(module) for module in modules):
            raise MissingPackage(
                f'a form with files is read by {package}, which is not there: @remote(…, dependencies=["{package}"])'
            )
    broken = importlib.import_module("starlette.formparsers").MultiPartException
    made = asgi.make_request(importlib.import_module("starlette.requests").Request, request)
    try:
        form = await made.form()
    except broken as error:
        raise wrong(("body",), "multipart_invalid", error.message) from None
    found: Fields = {}
    for name, value in form.multi_items():
        found.setdefault(name, []).append(value)
    return found


def file_reader(one: Parameter) -> Convert:
    """How the part of a form becomes what its parameter takes: the file, or its bytes; one, or all of that name."""
    kind = parameters.framework_class(one.annotation, ("UploadFile",))

    def convert(value: Any, place: Place) -> Any:
        if isinstance(value, list):
            return [single(item, (*place, n)) for n, item in enumerate(value)]
        return single(value, place)

    def single(value: Any, place: Place) -> Any:
        if isinstance(value, (str, bytes)):
            if kind is None:
                return value.encode() if isinstance(value, str) else value
            raise should_be(place, "value_error", "a file")
        if kind is None:
            return value.file.read() if bytes in _inner(one.annotation) else OF_TYPE[str](value, place)
        if isinstance(value, kind):
            return value
        return kind(file=value.file, size=value.size, filename=value.filename, headers=value.headers)

    return convert


def _inner(annotation: Any) -> tuple[Any, ...]:
    """The types of one value, where there may be several."""
    return tuple(inner for one in conversion.members(annotation) for inner in (one, *get_args(one)))
