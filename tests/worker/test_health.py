"""When a program counts as ready, and when as ill. Its answers are given, and nothing here waits long."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.relayed import health
from runpod_flash.worker.relayed.child import Child
from runpod_flash.worker.relayed.health import Health, interval
from runpod_flash.worker.relayed.upstream import Unanswered


class WellForever(Exception):
    """The answers are used up, and it was not given up."""


def verdict(*answers: int | Exception | None, busy: Callable[[], bool] = lambda: False) -> str:
    """What is said of a program with these answers, one after the other; None: it hangs."""
    left: Iterator[int | Exception | None] = iter(answers)

    async def ask() -> int:
        answer = next(left, WellForever())
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer

    return asyncio.run(Health(ask, busy, 0).fails())


GONE = Unanswered("the program does not listen at its port 1")


def test_three_failures_in_a_row_are_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.01)
    assert verdict(200, 500, 503, 500) == "status 500, 3 times in a row"
    assert verdict(404, GONE, GONE) == "no answer: the program does not listen at its port 1, 3 times in a row"
    assert verdict(None, None, None) == "no answer within 0.01 s, 3 times in a row"


def test_one_that_recovers_or_loads_something_anew_is_let_be() -> None:
    with pytest.raises(WellForever):
        verdict(500, 500, 200, 500, 500, 204, GONE, GONE)


def test_one_with_a_request_under_way_may_be_too_busy_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.01)
    with pytest.raises(WellForever):
        verdict(None, None, None, None, busy=lambda: True)
    assert verdict(500, 500, 500, busy=lambda: True) == "status 500, 3 times in a row"


def test_the_pause_is_said_by_a_variable() -> None:
    assert interval({}) == health.EVERY_S
    assert interval({"HEALTH_CHECK_INTERVAL": "0"}) == 0
    for wrong in ("often", "-1", "nan", "inf"):
        with pytest.raises(CannotStart, match="no number of seconds"):
            interval({"HEALTH_CHECK_INTERVAL": wrong})


# ── at its start ──────────────────────────────────────────────────────────────────────────────────


async def begun(*statuses: int | None) -> Child:
    """A program after its start, whose health check gives these, the last one again and again; None: no answer."""
    left = list(statuses)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = left.pop(0) if len(left) > 1 else left[0]
        try:
            if status is None:
                await reader.read()  # until it is given up: from Python 3.12 on, the server waits for that
            else:
                writer.write(b"HTTP/1.1 %d -\r\ncontent-length: 0\r\n\r\n" % status)
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        os.environ["PORT_HEALTH"] = str(server.sockets[0].getsockname()[1])
        child = Child(["sleep", "1000.25"], os.getcwd())
        await child.start()
        try:
            await child.ready()
        finally:
            await child.end(5)
    return child


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNPOD_INIT_TIMEOUT", "30")
    monkeypatch.setenv("PORT_HEALTH", "")


@pytest.mark.usefixtures("here")
def test_it_is_ready_with_200_and_not_while_it_says_204_or_fails() -> None:
    assert asyncio.run(begun(204, 500, 204, 200)).answers_health
    assert not asyncio.run(begun(204, 404)).answers_health, "it has no such path, and is not asked again"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("status", "told"), [(204, "status 204"), (500, "status 500"), (None, "no answer")])
def test_one_that_never_is_cannot_start_and_says_what_it_answered(
    monkeypatch: pytest.MonkeyPatch, status: int | None, told: str
) -> None:
    monkeypatch.setenv("RUNPOD_INIT_TIMEOUT", "0.3")
    with pytest.raises(CannotStart, match=rf"within 0\.3 s \(RUNPOD_INIT_TIMEOUT\): GET /ping at port .* gave {told}"):
        asyncio.run(begun(status))
