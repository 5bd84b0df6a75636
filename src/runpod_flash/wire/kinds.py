"""The number of every frame type; standard library only, because the worker reads it too."""

from __future__ import annotations

from typing import Final

PROTO_MIN: Final = 1
"""Oldest protocol this program speaks."""
PROTO_MAX: Final = 1
"""Newest protocol this program speaks; both ends use the highest number that they share."""

INLINE_LIMIT: Final = 256 * 1024
"""Bytes of one part that travel inside a frame; a longer part becomes a blob file."""
FRAME_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of one frame, header included; a peer that sends more is cut off."""
WINDOW: Final = 1024 * 1024
"""Bytes of a body that may be sent on a stream, each way, before its reader has said CREDIT."""
STREAM_ITEMS: Final = 16
"""Items that a generator may be ahead of whoever reads them; in bytes WINDOW."""

# Flags of a frame.
END: Final = 1
"""Last frame of its stream."""
FAILED: Final = 2
"""The reply is an ERROR to the request of the same stream."""

# Every link.
HELLO: Final = 1
WELCOME: Final = 2
REFUSE: Final = 3
PING: Final = 4
PONG: Final = 5
ERROR: Final = 7
GOODBYE: Final = 8
OK: Final = 9

# Client and engine.
DECLARE: Final = 16
DECLARED: Final = 17
ENV_STATE: Final = 19
PUT_DEF: Final = 20
GET_DEF: Final = 21
SUBMIT: Final = 22
ACCEPTED: Final = 23
ATTACH: Final = 24
CANCEL: Final = 25
RETRY: Final = 26
STATE: Final = 27
LOG: Final = 29
OUTCOME: Final = 31
QUERY: Final = 32
ROWS: Final = 33
ADMIN: Final = 34
PUT_BLOB: Final = 35
GET_BLOB: Final = 36
DROP_BLOBS: Final = 37
CALL: Final = 38
RETURNED: Final = 39
DEPLOY: Final = 44
LOOKUP: Final = 45

# Engine and host.
ENSURE_ENV: Final = 48
CANCEL_ENV: Final = 49
LAUNCH: Final = 50
LAUNCHED: Final = 51
STOP: Final = 52
EXITED: Final = 53
BEAT: Final = 54
BEAT_OK: Final = 55
SPAN: Final = 56
LIST_ENVS: Final = 57
PRUNE_ENVS: Final = 58
MEASURE: Final = 59
WORKING: Final = 60

# Engine and worker.
READY: Final = 64
DEF: Final = 65
START: Final = 66
DONE: Final = 67
ACK: Final = 68
DRAIN: Final = 69
EXIT: Final = 70
INVOKE: Final = 71
HTTP_REQ: Final = 72
HTTP_RES: Final = 73
DATA: Final = 74
CREDIT: Final = 75
CHUNK: Final = 76
TAKEN: Final = 77
PROGRESS: Final = 78

_NOT_KINDS = {"PROTO_MIN", "PROTO_MAX", "INLINE_LIMIT", "FRAME_LIMIT", "WINDOW", "STREAM_ITEMS", "END", "FAILED"}
NAMES: Final[dict[int, str]] = {
    number: name
    for name, number in list(globals().items())
    if name.isupper() and isinstance(number, int) and name not in _NOT_KINDS
}
"""Frame type → its name, for logs and errors."""
