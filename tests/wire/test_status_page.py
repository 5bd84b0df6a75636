from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_flash.wire.status_page import IDLE, SIZE, StatusPage, read_page


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "page"


def test_a_page_is_small_private_and_says_nothing_at_first(path: Path) -> None:
    StatusPage(path, create=True).close()
    assert path.stat().st_size == SIZE == 128
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_page(path) == IDLE


def test_a_call_that_has_begun_is_seen_by_the_other_side(path: Path) -> None:
    worker, host = StatusPage(path, create=True), StatusPage(path)
    worker.begin("0198-job", 3, 2, 1500)
    status = host.read()
    assert (status.job, status.epoch, status.attempt, status.running) == ("0198-job", 3, 2, True)
    assert status.deadline_ns - status.started_ns == 1_500_000_000
    worker.close()
    host.close()


def test_after_a_call_the_page_still_names_it(path: Path) -> None:
    worker = StatusPage(path, create=True)
    worker.begin("job", 1, 1, 0)
    assert worker.read().deadline_ns == 0
    worker.end()
    worker.close()
    status = read_page(path)
    assert (status.job, status.epoch, status.attempt) == ("job", 1, 1)
    assert not status.running


def test_a_page_survives_the_worker_that_wrote_it(path: Path) -> None:
    StatusPage(path, create=True).close()
    child = os.fork()
    if child == 0:
        StatusPage(path).begin("job", 5, 1, 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert read_page(path).epoch == 5


def test_a_writer_that_died_in_the_midst_is_read_all_the_same(path: Path) -> None:
    worker = StatusPage(path, create=True)
    worker.begin("job", 1, 1, 0)
    worker.close()
    with open(path, "r+b") as file:
        file.write(struct.pack("<Q", 7))  # an odd number: it was writing
    assert read_page(path).job == "job"


def test_raw_output_is_counted_beside_the_calls(path: Path) -> None:
    worker, host = StatusPage(path, create=True), StatusPage(path)
    host.add_raw_bytes(100)
    worker.begin("job", 1, 1, 0)
    host.add_raw_bytes(23)
    worker.end()
    assert worker.raw_bytes() == host.raw_bytes() == 123
    assert worker.read().job == "job"
    worker.close()
    host.close()


def test_no_page_and_a_page_of_nothing_are_idle(path: Path) -> None:
    assert read_page(path) == IDLE
    path.touch()
    assert read_page(path) == IDLE


@given(
    job=st.text("0123456789abcdef-", min_size=1, max_size=64),
    epoch=st.integers(0, 2**64 - 1),
    attempt=st.integers(0, 2**64 - 1),
    timeout_ms=st.integers(1, 10**10),
)
def test_whatever_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, job: str, epoch: int, attempt: int, timeout_ms: int
) -> None:
    page = StatusPage(tmp_path_factory.mktemp("page") / "page", create=True)
    page.begin(job, epoch, attempt, timeout_ms)
    status = page.read()
    assert (status.job, status.epoch, status.attempt) == (job, epoch, attempt)
    assert status.deadline_ns - status.started_ns == timeout_ms * 1_000_000
    page.close()
