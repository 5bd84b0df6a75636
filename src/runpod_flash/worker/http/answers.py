"""What is answered: to values, and to what went wrong. No answer shows anything of the inside."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from typing import Any, Final, NamedTuple

from runpod_flash.errors import EncodingError
from runpod_flash.payload import json_view
from runpod_flash.payload.scalars import Invalid
from runpod_flash.worker.http.body import BrokenOff
from runpod_flash.worker.http.request import WrongType
from runpod_flash.worker.results import Ending

Headers = list[tuple[str, str]]


class Answer(NamedTuple):
    """A whole one."""

    status: int
    headers: Headers
    body: bytes


JSON: Final = [("content-type", "application/json")]
_OCTETS: Final = [("content-type", "application/octet-stream")]
_NOBODY_WAITS: Final = 499
_LIBRARIES: Final = tuple({path + os.sep for path in sysconfig.get_paths().values()} | {"<frozen "})
_OURS: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


def of_value(value: Any, name: str) -> Answer:
    """JSON, or bytes as they are; EncodingError where a value is neither."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Answer(200, _OCTETS, bytes(value))
    return Answer(200, JSON, as_json(value, name))


def as_json(value: Any, name: str) -> bytes:
    """The value that the function of that name gave."""
    try:
        return json_view.view(value)
    except json_view.NotJson as error:
        raise EncodingError(
            f"{name.rpartition(':')[2]} returned a value that is not JSON, which is how it is answered over HTTP",
            why=str(error),
            fix="return what JSON has, bytes, a dataclass, a Pydantic model, or a Response",
        ) from None


def detail(status: int, said: Any, headers: Headers | None = None, **more: Any) -> Answer:
    """The shape that FastAPI gives to what went wrong."""
    return Answer(status, [*JSON, *(headers or ())], json.dumps({"detail": said, **more}).encode())


def of_error(error: BaseException, step: str, call: str, ending: Ending | None) -> Answer:
    """What the client is told; this cannot fail, whatever an exception carries."""
    try:
        return _of_error(error, step, call, ending)
    except Exception:  # noqa: BLE001 - details that are no JSON, headers that are none
        return detail(500, "Internal Server Error", id=call)


def _of_error(error: BaseException, step: str, call: str, ending: Ending | None) -> Answer:
    if ending is not None and ending.kind == "timeout":
        return detail(504, ending.message, id=call)
    if ending is not None or isinstance(error, BrokenOff):
        return Answer(_NOBODY_WAITS, [], b"")
    if step == "bind":
        if isinstance(error, Invalid):
            return detail(422, error.errors)
        if isinstance(error, WrongType):
            return detail(415, str(error))
    if _is_http(error):
        return _of_http(error)
    if step == "user" and type(error) is ValueError and _is_users(error):
        return detail(400, str(error))
    return detail(500, "Internal Server Error", id=call)


def _is_http(error: BaseException) -> bool:
    """FastAPI's and Starlette's HTTPException, by its looks: neither may be imported here."""
    return any(
        kind.__name__ == "HTTPException" and kind.__module__.startswith("starlette.") for kind in type(error).__mro__
    )


def _of_http(error: Any) -> Answer:
    headers: Headers = [(str(name), str(value)) for name, value in (error.headers or {}).items()]
    status = int(error.status_code)
    if status in (204, 304):
        return Answer(status, headers, b"")
    return detail(status, error.detail, headers)


def _is_users(error: BaseException) -> bool:
    """Whether the user's own code raised it, and no library: then its words are meant for whoever asked."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    return not file.startswith((_OURS, *_LIBRARIES)) and "site-packages" not in file


def tell(text: str) -> None:
    """Says in the output of the call what its client is not told."""
    sys.stderr.write(f"{text.rstrip()}\n")
