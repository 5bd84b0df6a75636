from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.host import log_files, logs
from runpod_flash.host.lines import LINE_LIMIT, End, Garbage, Lines, LogPipe, Output
from runpod_flash.host.log_files import HostLog, SegmentFile, prune
from runpod_flash.host.logs import NO_CALL, WorkerLog
from runpod_flash.wire import logfile
from runpod_flash.wire.logfile import read_span, segments_of
from runpod_flash.wire.messages import Log
from runpod_flash.wire.status_page import StatusPage


def test_lines_are_whole_however_they_arrive() -> None:
    text = b"one\ntwo\n\nfour"
    for size in range(1, len(text)):
        lines = Lines()
        got = b"".join(lines.feed(text[at : at + size]) for at in range(0, len(text), size))
        assert got + lines.finish() == text + b"\n"


def test_a_line_that_is_too_long_is_cut_once_and_the_next_is_whole() -> None:
    lines = Lines()
    got = b""
    for _ in range(100):
        got += lines.feed(b"x" * 10_000)
    got += lines.feed(b"tail\nnext\n") + lines.finish()
    first, second = got.splitlines()
    assert len(first) < LINE_LIMIT + 20
    assert first.endswith(b"[line cut]")
    assert second == b"next"


def test_a_long_line_in_one_piece_is_cut_too() -> None:
    assert Lines().feed(b"a\n" + b"x" * 200_000 + b"\nb\n").splitlines()[2] == b"b"


RECORDS = b'{"job":"j","attempt":1,"fd":2,"n":6}\none\nt\n{"end":"j","attempt":1}\n'


def test_records_are_taken_apart_however_they_arrive() -> None:
    for size in range(1, len(RECORDS)):
        pipe = LogPipe()
        events = [event for at in range(0, len(RECORDS), size) for event in pipe.feed(RECORDS[at : at + size])]
        output = [event for event in events if isinstance(event, Output)]
        assert b"".join(event.data for event in output) == b"one\nt\n"
        assert events[-1] == End("j", 1)


def test_garbage_in_the_log_pipe_is_output_of_nobody_and_ends_nothing() -> None:
    pipe = LogPipe()
    events = list(pipe.feed(b"garbage\n[1]\n" + RECORDS))
    assert events[0] == Garbage(b"garbage\n")
    assert End("j", 1) in events


class Bench:
    """A worker's log with real pipes and a real page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.page = StatusPage(home / "page", create=True)
        ends = [os.pipe() for _ in range(3)]
        self.readers, self.writers = [end[0] for end in ends], [end[1] for end in ends]
        for fd in self.readers:
            os.set_blocking(fd, False)
        self.sent: list[Log] = []
        out, err, log = self.readers
        self.log = WorkerLog(home, "w", self.page, (out, err, log), self.sent.append)

    def lines(self) -> list[tuple[str, str]]:
        return [(log.job, line) for log in self.sent for line in log.lines]

    def close(self) -> None:
        for fd in [*self.readers, *self.writers]:
            os.close(fd)
        self.log.finish(NO_CALL)  # closes the file; the pipes are gone


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.log._file.close()
    made.page.close()
    for fd in [*made.readers, *made.writers]:
        os.close(fd)


def end(job: str) -> bytes:
    return b'{"end":"%s","attempt":1}\n' % job.encode()


def test_bare_output_belongs_to_the_call_on_the_page(bench: Bench) -> None:
    bench.page.begin("a", 1, 1, 0)
    os.write(bench.writers[0], b"hello\nrest")
    bench.log.read_raw(1)
    bench.page.end()
    os.write(bench.writers[2], end("a"))
    spans = bench.log.read_log()
    assert bench.lines() == [("a", "hello"), ("a", "rest")]
    assert [(span.job, span.lines) for span in spans] == [("a", 2)]


def test_bare_output_that_is_read_after_the_call_is_claimed_by_its_end_record(bench: Bench) -> None:
    bench.page.begin("a", 1, 1, 0)
    os.write(bench.writers[1], b"late\n")
    bench.page.end()
    bench.log.read_raw(2)
    assert bench.page.raw_bytes() == 5
    os.write(bench.writers[2], end("a"))
    spans = bench.log.read_log()
    assert bench.lines() == [("a", "late")]
    assert read_span(bench.home, spans[0].segment, spans[0].start, spans[0].length, "a", 1)[0][1:] == (2, "late")


def test_bare_output_between_calls_belongs_to_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    os.write(bench.writers[0], b"nobody\n")
    bench.log.read_raw(1)
    monkeypatch.setattr(logs, "_CLAIM_S", -1.0)
    bench.log.settle()
    assert bench.lines() == []
    assert bench.log.last_lines == ["nobody"]
    data = (bench.home / segments_of(bench.home, "w")[0]).read_bytes()
    assert [(record.job, record.data) for record in logfile.decode(data)] == [("", b"nobody\n")]


def test_an_end_record_takes_the_bare_output_that_is_still_in_the_pipe(bench: Bench) -> None:
    os.write(bench.writers[0], b"in the pipe, without an end")
    os.write(bench.writers[2], end("a"))
    spans = bench.log.read_log()
    assert bench.lines() == [("a", "in the pipe, without an end")]
    assert spans[0].lines == 1


def test_a_disk_that_is_full_costs_the_lines_their_keeping_and_says_so_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: SegmentFile, _record: bytes) -> tuple[str, int, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SegmentFile, "append", full)
    bench.page.begin("a", 1, 1, 0)
    for text in (b"one\n", b"two\n"):
        os.write(bench.writers[0], text)
        bench.log.read_raw(1)
    os.write(bench.writers[2], end("a"))
    spans = bench.log.read_log()
    texts = [line for _, line in bench.lines()]
    assert texts[0] == "one"
    assert "No space left" in texts[1]
    assert texts[2:] == ["two"]
    assert spans[0].cut


def test_a_segment_that_is_full_is_followed_by_another_and_the_span_has_both(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "SEGMENT_LIMIT", 100)
    bench.page.begin("a", 1, 1, 0)
    for number in range(9):
        os.write(bench.writers[0], b"line number %d\n" % number)
        bench.log.read_raw(1)
    os.write(bench.writers[2], end("a"))
    spans = bench.log.read_log()
    assert len(spans) > 1
    found = [
        line for span in spans for _, _, line in read_span(bench.home, span.segment, span.start, span.length, "a", 1)
    ]
    assert found == [f"line number {number}" for number in range(9)]
    assert segments_of(bench.home, "w") == [span.segment for span in spans]
    assert os.stat(bench.home / spans[0].segment).st_mode & 0o777 == 0o600


def test_lines_are_numbered_within_the_attempt(bench: Bench) -> None:
    bench.page.begin("a", 1, 1, 0)
    for text in (b"1\n2\n", b"3\n"):
        os.write(bench.writers[0], text)
        bench.log.read_raw(1)
    assert [log.n for log in bench.sent] == [0, 2]


def test_output_of_a_worker_that_died_is_all_there(bench: Bench) -> None:
    os.write(bench.writers[2], b'{"job":"a","attempt":1,"fd":1,"n":5}\nword\n')
    os.write(bench.writers[1], b"Fatal Python error")
    spans = bench.log.finish(("a", 1))
    assert {line for _, line in bench.lines()} == {"word", "Fatal Python error"}
    assert [span.job for span in spans] == ["a"]
    assert bench.log.last_lines == ["word", "Fatal Python error"]


def test_old_logs_go_first_by_age_then_by_size(tmp_path: Path) -> None:
    now = time.time()
    for day, age in (("2020-01-01", 30), ("2020-01-30", 2), ("2020-01-31", 1), ("2020-02-01", 0)):
        path = tmp_path / "logs" / day / "w.1"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - age * 86400, now - age * 86400))
    prune(tmp_path, now, limit=1000)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["2020-01-30", "2020-01-31", "2020-02-01"]
    prune(tmp_path, now, limit=200)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["2020-01-31", "2020-02-01"]


def test_the_hosts_own_log_starts_anew_when_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostLog, "LIMIT", 1000)
    log = HostLog(tmp_path)
    for number in range(40):
        log.note(f"event {number} " + "x" * 50)
    assert (tmp_path / "logs" / "host.log").stat().st_size < 1200
    assert (tmp_path / "logs" / "host.log.1").exists()
    os.close(log._fd)


def test_a_span_cannot_lead_out_of_the_folder_of_logs(tmp_path: Path) -> None:
    for segment in ("../../etc/passwd", "/etc/passwd", "logs/../x", "store.db"):
        with pytest.raises(ValueError, match="is no log file"):
            read_span(tmp_path, segment, 0, 10, "a", 1)


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert read_span(tmp_path, "logs/2020-01-01/w.1", 0, 10, "a", 1) == []


def test_a_record_that_is_being_written_is_left_out() -> None:
    data = logfile.encode(5, "j", 1, 1, b"whole\n") + logfile.encode(6, "j", 1, 1, b"half\n")[:-2]
    assert [record.data for record in logfile.decode(data)] == [b"whole\n"]
