"""Large bytes, texts and arrays beside the pickle: whatever is around them, and whatever they look like."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec
from runpod_flash.wire.frame import Buffer

BESIDE = 64 * 1024
"""From this size on the pickler hands bytes and texts over by themselves."""
LENGTHS = st.sampled_from([0, 1, 255, 256, BESIDE - 1, BESIDE, BESIDE + 1, 3 * BESIDE])
LARGE = st.one_of(
    LENGTHS.map(lambda n: b"b" * n),
    LENGTHS.map(lambda n: bytearray(b"a" * n)),
    LENGTHS.map(lambda n: "t" * n),
    LENGTHS.map(lambda n: "é€😀" * (n // 4)),
    LENGTHS.map(lambda n: "\ud800" * (n // 3)),
    LENGTHS.map(lambda n: memoryview(bytearray(b"v" * n))),
    LENGTHS.map(lambda n: memoryview(b"r" * n)),
    LENGTHS.map(lambda n: list(range(n // 8))),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=5), LARGE),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


def there_and_back(value: Any) -> Any:
    return codec.decode(codec.encode(value).parts)


def sizes(value: Any) -> list[int]:
    return [len(memoryview(part).cast("B")) for part in codec.encode(value).parts]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(VALUES)
def test_whatever_the_value_it_comes_back(value: Any) -> None:
    again = there_and_back([value, value])
    assert again == [value, value]
    assert type(again[0]) is type(value)
    if isinstance(value, (bytes, bytearray, str)) and len(value) > 1:
        assert again[0] is again[1], "once, however often it is met"


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda text: text.decode(), memoryview])
def test_what_is_large_is_no_part_of_the_pickle(kind: Any) -> None:
    pickled, *beside = sizes({"deep": [(1, kind(b"x" * BESIDE), 2)]})
    assert pickled < 300
    assert beside == [BESIDE]


def test_bytes_are_not_copied() -> None:
    data = b"x" * BESIDE
    assert any(part is data for part in codec.encode([data]).parts)


def test_contents_that_look_like_opcodes_mean_nothing() -> None:
    for length in (10, BESIDE, 70_000):
        header = b"B" + struct.pack("<I", length)
        trap = [b"y" * (BESIDE - 40) + header, b"z" * length, header * 3, b"\x95" + header, b"w" * length]
        assert there_and_back(trap) == trap
        assert there_and_back([*trap, *range(40_000), *trap]) == [*trap, *range(40_000), *trap]


def test_the_pickle_is_one_that_python_reads_by_itself() -> None:
    parts: list[Buffer] = codec.encode([b"x" * BESIDE, "é" * BESIDE, bytearray(BESIDE)]).parts
    assert pickle.loads(parts[0], buffers=parts[1:]) == [b"x" * BESIDE, "é" * BESIDE, bytearray(BESIDE)]


def test_more_large_values_than_a_frame_has_parts_are_put_into_the_pickle() -> None:
    values = [bytes([n % 256]) * BESIDE for n in range(520)]
    assert len(sizes(values)) <= 501
    assert there_and_back(values) == values


@pytest.mark.parametrize("form", ["B", "d", "i"])
def test_views_keep_their_form_and_whether_they_can_be_written_to(form: str) -> None:
    flat: Any = memoryview(bytearray(96 * 1024))
    view = flat.cast(form, (2, 3, 96 * 1024 // 6 // struct.calcsize(form)))
    for one in (view, view.toreadonly()):
        again = there_and_back(one)
        assert (again.format, again.shape, again.readonly) == (one.format, one.shape, one.readonly)
        assert again.tobytes() == one.tobytes()
    every_other = memoryview(bytes(range(100)))[::2]
    assert there_and_back(every_other).tobytes() == every_other.tobytes()


def test_a_view_of_structures_is_refused_with_its_name() -> None:
    table: Any = np.zeros(4, [("a", "i4"), ("b", "f8")])
    with pytest.raises(EncodingError, match="memoryview of items of format"):
        codec.encode(((memoryview(table),), {}), named=lambda: ("table",))


def test_arrays_in_any_order_and_frames_stand_beside_the_pickle() -> None:
    rows = np.arange(60_000.0).reshape(200, 300)
    frame = pd.DataFrame({"a": np.arange(20_000), "b": np.arange(20_000.0)})
    assert len(sizes([rows, np.asfortranarray(rows), frame])) == 5
    first, second, third = there_and_back([rows, np.asfortranarray(rows), frame])
    assert (first == rows).all()
    assert (second == rows).all()
    assert second.flags.f_contiguous
    assert third.equals(frame)
    first[0, 0] = 7  # and can be written to
