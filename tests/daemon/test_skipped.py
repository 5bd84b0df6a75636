from __future__ import annotations

from runpod_flash.daemon.skipped import SkippedLines
from runpod_flash.wire import kinds, messages
from runpod_flash.wire.frame import FrameReader


def log(n: int, *lines: str, sid: int = 1) -> bytes:
    return messages.Log(job="j", attempt=1, worker="w", fd=1, at_ms=5, n=n, lines=list(lines)).encode(sid=sid)


def pong(sid: int, flags: int = 0) -> bytes:
    return messages.Pong().encode(sid=sid, flags=flags)


def seen(data: bytes) -> list[object]:
    """The lines of each LOG, the type of everything else."""
    frames = FrameReader().feed(data)
    return [messages.decode(one).lines if one.kind == kinds.LOG else one.kind for one in frames]


NOTICE = "({} lines skipped: they came faster than they were read; flash logs j has all)"


def test_nothing_is_changed_while_there_is_room() -> None:
    skipped = SkippedLines()
    data = log(0, "a", "b") + pong(3)
    assert skipped.sift(data, full=False) == data
    assert not skipped.untold


def test_lines_are_left_out_when_it_is_full_and_everything_else_is_not() -> None:
    skipped = SkippedLines()
    assert seen(skipped.sift(log(0, "a") + pong(3) + log(1, "b", "c"), full=True)) == [kinds.PONG]
    assert skipped.untold


def test_their_number_is_told_with_the_next_lines() -> None:
    skipped = SkippedLines()
    skipped.sift(log(0, "a", "b") + log(2, "c"), full=True)
    assert seen(skipped.sift(log(3, "d"), full=False)) == [[NOTICE.format(3)], ["d"]]
    assert not skipped.untold


def test_their_number_is_told_before_the_end_of_the_stream_even_if_it_is_full() -> None:
    skipped = SkippedLines()
    skipped.sift(log(0, "a") + log(0, "other", sid=5), full=True)
    told = seen(skipped.sift(pong(1) + pong(1, kinds.END), full=True))
    assert told == [kinds.PONG, [NOTICE.format(1)], kinds.PONG]
    assert skipped.untold, "the other stream still has to be told"
