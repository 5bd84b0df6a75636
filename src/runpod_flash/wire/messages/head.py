"""What the heads of all frames have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from runpod_flash.wire import frame

Moved = tuple[int, str, int]
"""A part that lies in a blob file: its index, the blob's id, its size in bytes."""


class Head(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Common base: `KIND` is the frame type that carries this head."""

    KIND: ClassVar[int]

    def body(self) -> bytes:
        """The head alone, for one that goes to several streams."""
        return _encode(self)

    def encode(self, parts: Sequence[frame.Buffer] = (), *, sid: int = 0, flags: int = 0) -> bytes:
        """The whole frame."""
        return frame.encode(self.KIND, _encode(self), parts, sid=sid, flags=flags)


_encode = msgspec.json.Encoder().encode
