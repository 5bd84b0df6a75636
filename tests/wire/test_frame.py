from __future__ import annotations

import array
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.wire import frame
from runpod_flash.wire.frame import Frame, FrameError, FrameReader

frames = st.builds(
    Frame,
    kind=st.integers(0, 255),
    flags=st.integers(0, 255),
    sid=st.integers(0, 2**64 - 1),
    head=st.binary(max_size=200),
    parts=st.lists(st.binary(max_size=300), max_size=5).map(tuple),
)


def encoded(one: Frame) -> bytes:
    return frame.encode(one.kind, one.head, one.parts, sid=one.sid, flags=one.flags)


@given(frames)
def test_what_is_encoded_is_decoded(one: Frame) -> None:
    assert FrameReader().feed(encoded(one)) == [one]


@given(st.lists(frames, max_size=6), st.data())
def test_frames_arrive_whole_however_the_bytes_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, got = FrameReader(), list[Frame]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert got == sent
    assert reader.pending == 0


@given(frames)
def test_byte_by_byte(one: Frame) -> None:
    reader, got = FrameReader(), list[Frame]()
    data = encoded(one)
    for at in range(len(data)):
        assert got == []
        got += reader.feed(data[at : at + 1])
    assert got == [one]


@given(frames, st.integers(0, 1000))
def test_half_a_frame_is_no_frame(one: Frame, missing: int) -> None:
    data = encoded(one)
    part = data[: max(0, len(data) - 1 - missing)]
    reader = FrameReader()
    assert reader.feed(part) == []
    assert reader.pending == len(part)


@given(st.binary(max_size=400))
def test_whatever_bytes_come_they_are_frames_or_an_error(data: bytes) -> None:
    reader = FrameReader(limit=10_000)
    try:
        got = reader.feed(data)
    except FrameError:
        return
    assert sum(len(encoded(one)) for one in got) + reader.pending == len(data)


@given(frames, st.integers(0, 19), st.integers(0, 255))
def test_a_header_with_a_wrong_byte_is_never_read_beyond_its_frame(one: Frame, at: int, byte: int) -> None:
    data = bytearray(encoded(one))
    data[at] = byte
    try:
        got = FrameReader().feed(bytes(data))
    except FrameError:
        return
    assert sum(len(each.head) + sum(map(len, each.parts)) for each in got) <= len(data)


HEADER = struct.Struct("<IBBHIQ")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(HEADER.pack(9 * 1024 * 1024, 1, 0, 0, 10, 0), id="longer than the limit"),
        pytest.param(HEADER.pack(2**32 - 1, 1, 0, 0, 10, 0), id="as long as can be said"),
        pytest.param(HEADER.pack(0, 1, 0, 0, 0, 0), id="shorter than its own header"),
        pytest.param(HEADER.pack(16, 1, 0, 0, 100, 0), id="its head longer than itself"),
        pytest.param(HEADER.pack(20, 1, 0, 65535, 0, 0), id="its table of parts longer than itself"),
        pytest.param(HEADER.pack(26, 1, 0, 0, 0, 0) + b"x" * 10, id="bytes that belong to nothing"),
        pytest.param(HEADER.pack(20, 1, 0, 1, 0, 0) + struct.pack("<I", 5), id="a part that is not there"),
    ],
)
def test_frames_that_lie_about_their_length_are_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(header)


def test_a_frame_of_the_highest_length_passes() -> None:
    data = frame.encode(1, b"{}", [b"x" * 1000], sid=1)
    assert FrameReader(limit=len(data) - 4).feed(data)
    with pytest.raises(FrameError):
        FrameReader(limit=len(data) - 5).feed(data)


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_packed_parts_come_apart_again(parts: list[bytes]) -> None:
    assert frame.unpack_parts(bytes(frame.pack_parts(parts))) == tuple(parts)


def test_buffers_count_by_bytes_and_not_by_items() -> None:
    numbers = memoryview(array.array("d", [1.0, 2.0]))
    alone: list[frame.Buffer] = [numbers]
    for parts in (alone, [*alone, bytearray(b"x")]):
        (got,) = FrameReader().feed(frame.encode(1, b"{}", parts))
        assert got.parts == tuple(bytes(part) for part in parts)
        assert frame.unpack_parts(bytes(frame.pack_parts(parts))) == got.parts
