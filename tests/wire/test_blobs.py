from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.wire import blobs
from runpod_flash.wire.blobs import BlobError
from runpod_flash.wire.kinds import INLINE_LIMIT

NOT_IDS = ["", "..", "../" * 10 + "0" * 2, "a" * 31, "A" * 32, "a" * 31 + "/", "a" * 32 + "\n", "g" * 32]


@pytest.mark.parametrize("sync", [False, True])
def test_what_is_written_is_read(tmp_path: Path, sync: bool) -> None:
    blob = blobs.write(tmp_path, b"large", sync=sync)
    assert bytes(blobs.read(tmp_path, blob)) == b"large"
    path = blobs.path_of(tmp_path, blob)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [blob]


def test_a_reader_may_change_what_it_has_and_nobody_else_sees_it(tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, b"large")
    mine = blobs.read(tmp_path, blob)
    mine[0:1] = b"L"
    assert bytes(blobs.read(tmp_path, blob)) == b"large"


def test_an_empty_blob_is_a_blob(tmp_path: Path) -> None:
    assert bytes(blobs.read(tmp_path, blobs.write(tmp_path, b""))) == b""


def test_a_retired_blob_is_gone_and_retiring_it_again_is_nothing(tmp_path: Path) -> None:
    blob = blobs.write(tmp_path, b"large")
    blobs.retire(tmp_path, blob)
    blobs.retire(tmp_path, blob)
    with pytest.raises(BlobError):
        blobs.read(tmp_path, blob)


@pytest.mark.parametrize("name", NOT_IDS)
def test_a_name_that_is_no_id_leads_nowhere(tmp_path: Path, name: str) -> None:
    assert not blobs.is_id(name)
    for use in (blobs.path_of, blobs.read, blobs.retire):
        with pytest.raises(BlobError):
            use(tmp_path, name)


def test_a_blob_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="does not fit into"):
        blobs.write(tmp_path, b"large")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_small_parts_stay_where_they_are(tmp_path: Path) -> None:
    parts = [b"a", b"b" * INLINE_LIMIT]
    inline, moved = blobs.spill(parts, lambda part: blobs.write(tmp_path, part))
    assert (inline, moved) == (parts, [])
    assert not list(tmp_path.iterdir())


def test_large_parts_leave_an_empty_one_in_their_place(tmp_path: Path) -> None:
    large = b"x" * (INLINE_LIMIT + 1)
    inline, moved = blobs.spill([b"a", large, b"b"], lambda part: blobs.write(tmp_path, part))
    assert inline == [b"a", b"", b"b"]
    assert [(index, size) for index, _blob, size in moved] == [(1, len(large))]
    assert [bytes(part) for part in blobs.gather(tmp_path, inline, moved)] == [b"a", large, b"b"]


def test_many_parts_that_are_large_together_are_moved_too(tmp_path: Path) -> None:
    parts = [bytes([n]) * INLINE_LIMIT for n in range(7)]
    inline, moved = blobs.spill(parts, lambda part: blobs.write(tmp_path, part))
    assert sum(map(len, inline)) <= 4 * INLINE_LIMIT
    assert [bytes(part) for part in blobs.gather(tmp_path, inline, moved)] == parts


@given(st.lists(st.sampled_from([0, 1, 1000, INLINE_LIMIT, INLINE_LIMIT + 1, 3 * INLINE_LIMIT]), max_size=6))
def test_whatever_the_sizes_everything_comes_back(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    parts = [bytes([n]) * size for n, size in enumerate(sizes)]
    inline, moved = blobs.spill(parts, lambda part: blobs.write(folder, part))
    assert [bytes(part) for part in blobs.gather(folder, inline, moved)] == parts


def test_a_blob_that_is_gone_says_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(BlobError, match=str(tmp_path)):
        blobs.gather(tmp_path, [b""], [(0, "0" * 32, 5)])
