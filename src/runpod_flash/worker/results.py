"""What a call came to, as the frame that says so: value or exception, packed, and a head that describes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple, Protocol

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec, failures, json_view
from runpod_flash.wire import blobs, kinds
from runpod_flash.wire.frame import Buffer


class Ending(NamedTuple):
    """Why a call is being ended before it is over."""

    kind: str
    type: str
    message: str
    module: str


class Store(Protocol):
    """Where large parts go; the link knows."""

    blob_dir: str
    sync_blobs: bool
    max_value: int


class Result(NamedTuple):
    """What an attempt came to: the parts of its frame, and what its head says of them."""

    parts: Sequence[Buffer]
    moved: list[tuple[int, str, int]]
    defs: list[str]
    values: int
    excs: int
    json: bool
    json_error: str
    error: dict[str, str] | None
    encoding: str = "pickle"
    usual: bool = False
    """Whether there is nothing to be said of it but that it is a value in one part."""

    def head(self, of: str, load_us: int, run_us: int, logs: bool, stuck: bool = False) -> bytes:
        """The head of DONE or RETURNED; `of` are its first fields, which say what ended."""
        if self.usual and not (load_us or logs or stuck):
            return f'{{{of}"ok":true,"values":1,"run_us":{run_us}}}'.encode()
        ok = "true" if self.error is None else "false"
        common = f'{{{of}"ok":{ok},"values":{self.values},"run_us":{run_us}'
        if self.encoding != "pickle":
            common += f',"encoding":"{self.encoding}"'
        if not (load_us or logs or stuck or any(self[1:3]) or any(self[4:8])):
            return f"{common}}}".encode()
        rest = {
            "excs": self.excs,
            "json": int(self.json),
            "blobs": self.moved,
            "defs": self.defs,
            "load_us": load_us,
            "logs": logs,
            "stuck": stuck,
            "json_error": self.json_error,
            "error": self.error,
        }
        return f"{common},{json.dumps({name: value for name, value in rest.items() if value})[1:]}".encode()


def completed(value: Any, store: Store, *, want_json: bool = False) -> Result:
    """The result of a call that returned; raises what makes its value one that cannot travel."""
    encoded = codec.encode(value, define=False)
    if not want_json:
        parts, defs, small = encoded
        if small and not defs:
            return _new(Result, (parts, _NONE, _NONE, 1, 0, False, "", None, "pickle", True))
    view, json_error = _json_view(value, encoded.parts) if want_json else (None, "")
    packed, moved = _packed([*encoded.parts, view] if view is not None else encoded.parts, store)
    return Result(packed, moved, encoded.defs, len(encoded.parts), 0, view is not None, json_error, None)


def completed_as_json(value: Any, store: Store) -> Result:
    """The same of a call whose caller reads JSON and nothing else."""
    try:
        view = json_view.view(value)
    except json_view.NotJson as error:
        raise EncodingError(
            f"the value that it gave is not JSON: {error}",
            why="this job came over HTTP, and whoever asked reads JSON",
            fix="give what JSON has: dict, list, str, int, float, bool, None",
        ) from None
    parts, moved = _packed([view], store)
    return Result(parts, moved, [], 1, 0, False, "", None, "json")


def failed(error: BaseException, step: str, caller: CodeType, ending: Ending | None, store: Store) -> Result:
    """The result of a call that raised in that `step`, or was ended; `caller` is the code that makes calls."""
    if step == "user" and isinstance(error, TypeError) and _raised_by_the_call_itself(error, caller):
        step = "bind"
    failure = failures.record(error, step)
    if ending is not None and (ending.kind == "timeout" or isinstance(error, asyncio.CancelledError)):
        facts = {"type": ending.type, "message": ending.message, "kind": ending.kind, "module": ending.module}
        return _NOTHING._replace(error={**failure.error, **facts})
    try:
        parts, moved = _packed(failure.parts, store)
    except (OSError, EncodingError):  # no room for a large exception: its text will do
        return _NOTHING._replace(error=failure.error)
    return Result(parts, moved, failure.defs, 0, len(parts), False, "", failure.error)


def timed_out(timeout_ms: int) -> Ending:
    """It took too long."""
    return Ending("timeout", "TimeoutError", f"it took longer than its timeout of {timeout_ms / 1000:g} s", "builtins")


def cancelled(cause: str) -> Ending:
    """Somebody asked for it."""
    return Ending("cancelled", "JobCancelled", f"cancelled: {cause or 'asked for'}", "runpod_flash.errors")


_NONE: Final[list[Any]] = []
_new = tuple.__new__  # what Result(…) does, without a Python function in between
_NOTHING: Final = Result((), [], [], 0, 0, False, "", None)


def _packed(parts: Sequence[Buffer], store: Store) -> tuple[Sequence[Buffer], list[tuple[int, str, int]]]:
    if len(parts) == 1 and len(parts[0]) <= kinds.INLINE_LIMIT:
        return parts, []
    if store.max_value and codec.size(parts) > store.max_value:
        raise codec.too_large(codec.size(parts), store.max_value)
    folder, sync = Path(store.blob_dir), store.sync_blobs
    return blobs.spill(parts, lambda part: blobs.write(folder, part, sync=sync))


def _json_view(value: Any, parts: Sequence[Buffer]) -> tuple[bytes | None, str]:
    if codec.size(parts) > json_view.LIMIT:
        return None, f"the result is larger than {json_view.LIMIT // 1024} KiB, so there is no JSON view of it"
    try:
        return json_view.view(value), ""
    except json_view.NotJson as error:
        return None, str(error)


def _raised_by_the_call_itself(error: BaseException, caller: CodeType) -> bool:
    """Whether no user code ran: the traceback ends in the frame that makes the call."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is caller
