"""What a worker of Runpod's protocol says of a job: the bodies of job-done and job-stream.

They are JSON, under a content type that says otherwise. The output itself stays text.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import msgspec

from runpod_flash.gateway.runpod.rendering import AS_IT_IS
from runpod_flash.model.job import ErrorKind
from runpod_flash.wire.messages import ErrorInfo

_MISSING: Final = b""


class NotJson(ValueError):
    """A body cannot be read; the message says why."""


class Result(NamedTuple):
    """How a job ended: `output` is JSON text, None for none. With `progress`, it has not ended."""

    output: bytes | None
    error: ErrorInfo | None = None
    progress: Any = None
    refresh: bool = False  # the worker wants to be replaced


class _Body(msgspec.Struct, rename="camel"):
    output: msgspec.Raw = msgspec.Raw(_MISSING)
    error: msgspec.Raw = msgspec.Raw(_MISSING)
    status: Any = None
    stop_pod: Any = False


_decode: Final = msgspec.json.Decoder(_Body).decode


def read_result(body: bytes) -> Result:
    """A body of job-done. NotJson."""
    found = _read(body)
    output = bytes(found.output)
    if found.status == "IN_PROGRESS":
        return Result(None, progress=msgspec.json.decode(output) if output else {})
    error = _error(bytes(found.error))
    if not output and error is None:
        output = b"{}"  # a handler that returned an empty object: workers leave it out
    return Result(output or None, error, refresh=bool(found.stop_pod))


def read_item(body: bytes) -> bytes | None:
    """A body of job-stream: JSON text of what was yielded. NotJson."""
    return bytes(_read(body).output) or None


def _read(body: bytes) -> _Body:
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise NotJson(f"the body is no result: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _not_quite(body, error)


def _not_quite(body: bytes, why: Exception) -> _Body:
    """Python writes NaN and Infinity, which are no JSON; whoever reads the output could not."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson(f"the body is no JSON: {why}") from None
    if not isinstance(said, dict):
        raise NotJson(f"the body is no JSON: {why}")
    message = "its output is no JSON: NaN and Infinity cannot be sent; return None or a string instead"
    return _Body(error=msgspec.Raw(msgspec.json.encode(message)), stop_pod=said.get("stopPod", False))


def _error(text: bytes) -> ErrorInfo | None:
    """Why a job failed, as its worker said it; of an exception, type and traceback as well. None for no error."""
    value = msgspec.json.decode(text) if text else None
    if not value:
        return None
    message = value if isinstance(value, str) else text.decode("utf-8", "replace")
    facts = _facts(message)
    name = str(facts.get("error_type", "")).removeprefix("<class '").removesuffix("'>")
    return ErrorInfo(
        type=name.rpartition(".")[2] or "HandlerError",
        module=AS_IT_IS,
        message=str(facts.get("error_message", "")) or message,
        verbatim=message if facts else "",
        traceback=str(facts.get("error_traceback", "")),
        kind=ErrorKind.USER,
    )


def _facts(message: str) -> dict[str, Any]:
    """What a worker tells of an exception: a JSON object, as text."""
    try:
        said = json.loads(message) if message.startswith("{") else None
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
