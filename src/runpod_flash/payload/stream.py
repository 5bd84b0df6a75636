"""What the pickler writes, cut so that large bytes and texts stand beside the pickle instead of in it.

The C pickler hands bytes, byte arrays and texts of 64 KiB and more to `write` by themselves, as the objects that
they are, after a piece that ends with the opcode for them and their length. That opcode is exchanged for a call that
makes the value from the next out-of-band buffer. The result is an ordinary pickle of protocol 5: what reads it knows
nothing of this, and nothing large was copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from runpod_flash.wire.frame import Buffer

Beside = tuple[int, Buffer]
"""A buffer beside the pickle, and how many pieces had been written before it was met."""

_PROTO: Final = 2
_FRAME: Final = struct.Struct("<BQ")
_FRAME_OPCODE: Final = 0x95
_BUFFER: Final = b"\x97"
_CALL_WITH_1: Final = b"\x85R"
_TEXT: Final = b"cbuiltins\nstr\n" + _BUFFER + b"\x8c\x05utf-8\x8c\x0dsurrogatepass\x87R"
_BYTES: Final = b"cbuiltins\nbytes\n" + _BUFFER + _CALL_WITH_1
_BYTE_ARRAY: Final = b"cbuiltins\nbytearray\n" + _BUFFER + _CALL_WITH_1
_HEADERS: Final = (
    (struct.Struct("<cI"), b"B", _BYTES),
    (struct.Struct("<cQ"), b"\x8e", _BYTES),
    (struct.Struct("<cQ"), b"\x96", _BYTE_ARRAY),
    (struct.Struct("<cI"), b"X", _TEXT),
    (struct.Struct("<cQ"), b"\x8d", _TEXT),
)


class Sink:
    """The least that a pickler takes for a file."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Any], object]) -> None:
        self.write = write


def parts(written: list[Any], beside: list[Beside], most: int) -> list[Buffer]:
    """The pickle and the buffers beside it, in the order in which reading it asks for them."""
    pickle: list[Buffer] = []
    buffers = list(beside)
    after_header = False
    for number, piece in enumerate(written):
        if after_header:
            after_header = False
            # Of a text only the memory is given, which lives as long as the pickler.
            whole = bytes(piece) if type(piece) is memoryview else piece
            if len(buffers) < most and (exchanged := _exchanged(pickle[-1], len(whole))) is not None:
                pickle[-1] = exchanged
                buffers.append((number, whole))
            else:
                pickle.append(whole)
        else:
            after_header = len(piece) > _end_of_frame(piece, _PROTO if number == 0 else 0)
            pickle.append(piece)
    buffers.sort(key=_position)
    return [b"".join(pickle), *(buffer for _, buffer in buffers)]


def view_of(buffer: Buffer, form: str, shape: tuple[int, ...]) -> memoryview:
    """Stands in a pickle for a memoryview."""
    view = memoryview(buffer).cast("B")
    return view if (form, len(shape)) == ("B", 1) else view.cast(form.lstrip("@"), shape)  # type: ignore[call-overload]  # any form will do


def _position(beside: Beside) -> int:
    return beside[0]


def _end_of_frame(piece: bytes, start: int) -> int:
    """Where the frame of opcodes in a piece ends. The header of something large comes after it, and nothing else."""
    if len(piece) < start + _FRAME.size or piece[start] != _FRAME_OPCODE:
        return start
    return start + _FRAME.size + int(_FRAME.unpack_from(piece, start)[1])


def _exchanged(piece: Buffer, length: int) -> bytes | None:
    """A piece with the header at its end exchanged; None if there is none for something that long."""
    for layout, opcode, call in _HEADERS:
        if length < 1 << 32 or layout.size > 5:
            header = layout.pack(opcode, length)
            if bytes(piece[-len(header) :]) == header:
                return bytes(piece[: -len(header)]) + call
    return None
