"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from cpu_worker import pieces, read_piece

LINE = b'203.0.113.9 - - [14/Mar/2026:09:00:00 +0000] "GET /docs HTTP/1.1" 200 512\n'


@pytest.mark.parametrize("size", [1, 10, 1000, 100_000])
def test_pieces_end_where_lines_end_and_lose_nothing(size: int) -> None:
    log = LINE * 50 + b"the last line has no end"
    found = pieces(log, size)

    assert b"".join(found) == log
    assert all(piece.endswith(b"\n") for piece in found[:-1])


@pytest.mark.asyncio
async def test_lines_are_counted_and_those_that_are_none_too() -> None:
    counts = await read_piece.local(LINE * 2 + b"--- rotated ---\n\n")

    assert counts == {"states": {"200": 2}, "paths": {"/docs": 2}, "bytes": 1024, "unreadable": 1}
