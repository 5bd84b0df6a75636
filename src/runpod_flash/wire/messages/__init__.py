"""The head of every frame, typed: what each side says and what the other answers.

Engine, host and client read and write these with msgspec; the worker, which lives in the user's
interpreter, reads and writes the same JSON with the standard library. Unknown fields are ignored, an
unknown frame type is answered with ERROR `unsupported`, and the link stays. Durations are relative and
carry their unit in the name; absolute times are engine wall clock milliseconds (`…_at_ms`).

`parts` of a frame are said in each docstring. A part longer than 256 KiB lies in a blob file instead:
`blobs` lists (index, blob id, size) and the part itself is empty (`wire/blobs.py`).

`head` has what they share, `link`, `client`, `host` and `worker` who says them to whom; all names are here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from runpod_flash.wire import frame, kinds
from runpod_flash.wire.messages.client import (
    Accepted,
    Admin,
    Attach,
    Call,
    Cancel,
    Declare,
    Declared,
    Deploy,
    DeployedEndpoint,
    DropBlobs,
    ErrorInfo,
    FunctionSpec,
    GetBlob,
    GetDef,
    Log,
    Lookup,
    Outcome,
    Position,
    PutBlob,
    PutDef,
    Query,
    Retry,
    Returned,
    Route,
    Rows,
    State,
    Submit,
)
from runpod_flash.wire.messages.head import Head, Moved
from runpod_flash.wire.messages.host import (
    Beat,
    BeatOk,
    CancelEnv,
    Current,
    EnsureEnv,
    EnvState,
    Exited,
    Launch,
    Launched,
    ListEnvs,
    Measure,
    PruneEnvs,
    Span,
    Stop,
    Working,
)
from runpod_flash.wire.messages.link import (
    Error,
    Goodbye,
    Hello,
    Machine,
    Ok,
    Ping,
    Pong,
    Refuse,
    Welcome,
    WorkerPresence,
)
from runpod_flash.wire.messages.worker import (
    Ack,
    Chunk,
    Credit,
    Data,
    Def,
    Done,
    Drain,
    Exit,
    HttpReq,
    HttpRes,
    Invoke,
    Progress,
    Ready,
    Start,
    Taken,
)

__all__ = [
    "HEADS",
    "Accepted",
    "Ack",
    "Admin",
    "Attach",
    "BadHead",
    "Beat",
    "BeatOk",
    "Call",
    "Cancel",
    "CancelEnv",
    "Chunk",
    "Credit",
    "Current",
    "Data",
    "Declare",
    "Declared",
    "Def",
    "Deploy",
    "DeployedEndpoint",
    "Done",
    "Drain",
    "DropBlobs",
    "EnsureEnv",
    "EnvState",
    "Error",
    "ErrorInfo",
    "Exit",
    "Exited",
    "FunctionSpec",
    "GetBlob",
    "GetDef",
    "Goodbye",
    "Head",
    "Hello",
    "HttpReq",
    "HttpRes",
    "Invoke",
    "Launch",
    "Launched",
    "ListEnvs",
    "Log",
    "Lookup",
    "Machine",
    "Measure",
    "Moved",
    "Ok",
    "Outcome",
    "Ping",
    "Pong",
    "Position",
    "Progress",
    "PruneEnvs",
    "PutBlob",
    "PutDef",
    "Query",
    "Ready",
    "Refuse",
    "Retry",
    "Returned",
    "Route",
    "Rows",
    "Span",
    "Start",
    "State",
    "Stop",
    "Submit",
    "Taken",
    "Welcome",
    "WorkerPresence",
    "Working",
    "decode",
]  # fmt: skip

HEADS: dict[int, type[Head]] = {head.KIND: head for head in Head.__subclasses__()}
"""Frame type → the class of its head."""


_SHORT: Final = 64
_MOST_KEPT: Final = 256


class BadHead(ValueError):
    """The head of a frame does not fit its type; `kind` is the type."""

    def __init__(self, kind: int, why: str) -> None:
        super().__init__(f"{kinds.NAMES.get(kind, f'frame type {kind}')}: {why}")
        self.kind = kind


class _Kept(dict[bytes, Head]):
    """Short heads that came lately, for a type of which the same ones come again and again. Nobody changes them."""

    def __init__(self, decode: Callable[[bytes], Head]) -> None:
        self._decode = decode

    def __missing__(self, raw: bytes) -> Head:
        head = self._decode(raw)
        if len(raw) <= _SHORT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[raw] = head
        return head


class _Decoders(dict[int, Callable[[bytes], Head]]):
    """Each made with the first frame of its type: all of them would take as long as all other imports of a program."""

    def __missing__(self, kind: int) -> Callable[[bytes], Head]:
        if kind not in HEADS:
            raise BadHead(kind, "unknown type")
        decode: Callable[[bytes], Head] = msgspec.json.Decoder(HEADS[kind]).decode
        self[kind] = _Kept(decode).__getitem__ if kind == kinds.RETURNED else decode
        return self[kind]


_DECODERS = _Decoders()


def decode(message: frame.Frame) -> Any:
    """The typed head of a frame; BadHead if the type is unknown or the head does not fit it."""
    decode = _DECODERS[message.kind]
    try:
        return decode(message.head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadHead(message.kind, str(error)) from error
