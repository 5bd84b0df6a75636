"""Framing without I/O: bytes in, frames out, and back; standard library only.

A frame is, little endian::

    u32 length (bytes after this field) | u8 type | u8 flags | u16 parts | u32 head_len | u64 sid
    parts × u32 part lengths | head (a JSON object) | parts (opaque bytes)

`sid` names a stream: the side that opens one chooses it (clients odd, engine even; 0 is the link
itself), and replies carry it back. The first frame both ways is HELLO or WELCOME, whose layout never
changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runpod_flash.wire.kinds import FRAME_LIMIT

Buffer = bytes | bytearray | memoryview

_HEADER = struct.Struct("<IBBHIQ")
_LENGTH = struct.Struct("<I")
_PREFIX = _HEADER.size - _LENGTH.size
_WITH_ONE = struct.Struct("<IBBHIQI")
_ONE = _WITH_ONE.size - _LENGTH.size
_PACKED_ONE = struct.Struct("<HI")
# Read for every frame: a name is found sooner than an attribute of a name.
_pack_with_one, _unpack_with_one, _WITH_ONE_SIZE = _WITH_ONE.pack, _WITH_ONE.unpack_from, _WITH_ONE.size


class FrameError(ValueError):
    """The peer sent bytes that are no frame of this protocol; the link must be closed."""


class Frame(NamedTuple):
    """One message as it stands on the wire."""

    kind: int
    flags: int
    sid: int
    head: bytes
    parts: tuple[bytes, ...]


_new = tuple.__new__  # what Frame(…) does, without a Python function in between


def encode(kind: int, head: bytes, parts: Sequence[Buffer] = (), *, sid: int = 0, flags: int = 0) -> bytes:
    """The bytes of one frame."""
    if len(parts) == 1:  # by far the most frequent
        part = parts[0]
        size, length = len(head), part.nbytes if type(part) is memoryview else len(part)
        return _pack_with_one(_ONE + size + length, kind, flags, 1, size, sid, length) + head + part
    if not parts:
        return _HEADER.pack(_PREFIX + len(head), kind, flags, 0, len(head), sid) + head
    lengths = [_size(part) for part in parts]
    total = _PREFIX + 4 * len(parts) + len(head) + sum(lengths)
    table = struct.pack(f"<{len(parts)}I", *lengths)
    return b"".join([_HEADER.pack(total, kind, flags, len(parts), len(head), sid), table, head, *parts])


def _size(part: Buffer) -> int:
    """Bytes of a part; `len` of a memoryview counts items, which may be larger."""
    return part.nbytes if type(part) is memoryview else len(part)


class FrameReader:
    """Cuts a byte stream into frames; feed it whatever arrives."""

    __slots__ = ("_limit", "_pending")

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._pending = b""

    def feed(self, data: Buffer) -> list[Frame]:
        """Every frame that `data` completes, in order; raises FrameError on a malformed one."""
        if self._pending:
            buffer, self._pending = self._pending + data, b""
        else:
            buffer = bytes(data)
        end = len(buffer)
        if end >= _WITH_ONE_SIZE:
            length, kind, flags, count, head_len, sid, size = _unpack_with_one(buffer)
            at = _WITH_ONE_SIZE + head_len
            # One frame and nothing else, of one part: so are nearly all, where calls do not come in crowds.
            if count == 1 and at + size == end == length + 4 and length <= self._limit:
                return [_new(Frame, (kind, flags, sid, buffer[_WITH_ONE_SIZE:at], (buffer[at:],)))]
        return self._cut_all(buffer, end)

    def _cut_all(self, buffer: bytes, end: int) -> list[Frame]:
        frames: list[Frame] = []
        start, limit, least, last = 0, self._limit, _HEADER.size, end - _WITH_ONE_SIZE
        while start + least <= end:
            if start <= last:
                length, kind, flags, count, head_len, sid, size = _unpack_with_one(buffer, start)
                at = start + _WITH_ONE_SIZE
                body = at + head_len
                stop = body + size
                if count == 1 and stop == start + 4 + length and length <= limit:
                    if stop > end:
                        break
                    frames.append(_new(Frame, (kind, flags, sid, buffer[at:body], (buffer[body:stop],))))
                    start = stop
                    continue
            cut = self._cut(buffer, start, end)
            if cut is None:
                break
            frames.append(cut[0])
            start = cut[1]
        self._pending = buffer[start:] if start else buffer
        return frames

    def _cut(self, buffer: bytes, start: int, end: int) -> tuple[Frame, int] | None:
        """The frame that begins there, of however many parts, and its end; None if only a piece of it is there."""
        length, kind, flags, count, head_len, sid = _HEADER.unpack_from(buffer, start)
        if length > self._limit or length < _PREFIX + 4 * count + head_len:
            raise FrameError(f"a frame of type {kind} claims {length} bytes")
        stop = start + 4 + length
        if stop > end:
            return None
        at = start + _HEADER.size + 4 * count
        body = at + head_len
        lengths = struct.unpack_from(f"<{count}I", buffer, at - 4 * count) if count else ()
        if body + sum(lengths) != stop:
            raise FrameError(f"a frame of type {kind} is not filled by its parts")
        return _new(Frame, (kind, flags, sid, buffer[at:body], tuple(_cut(buffer, body, lengths)))), stop

    @property
    def pending(self) -> int:
        """Bytes held of a frame that has not fully arrived."""
        return len(self._pending)


def _cut(buffer: bytes, at: int, lengths: Iterable[int]) -> Iterable[bytes]:
    for length in lengths:
        yield buffer[at : at + length]
        at += length


def pack_parts(parts: Sequence[Buffer]) -> bytearray:
    """Several parts as one value, for a column of the store; `unpack_parts` undoes it."""
    if len(parts) == 1:
        part = parts[0]
        packed = bytearray(_PACKED_ONE.pack(1, part.nbytes if type(part) is memoryview else len(part)))
        packed += part
        return packed
    lengths = [_size(part) for part in parts]
    return bytearray().join([struct.pack(f"<H{len(parts)}I", len(parts), *lengths), *parts])


def unpack_parts(packed: bytes) -> tuple[bytes, ...]:
    """The parts that `pack_parts` joined."""
    (count,) = struct.unpack_from("<H", packed)
    if count == 1:
        return (packed[_PACKED_ONE.size :],)
    return tuple(_cut(packed, 2 + 4 * count, struct.unpack_from(f"<{count}I", packed, 2)))
