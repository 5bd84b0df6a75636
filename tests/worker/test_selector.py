"""How the loop of a worker waits for what the engine sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from runpod_flash.worker.event_loop import EventLoop
from runpod_flash.worker.selector import Selector


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.timeout(20)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "though the loop was run inside of it"])
def test_what_is_read_may_leave_something_for_later(ends: tuple[socket.socket, socket.socket], inside: bool) -> None:
    ours, theirs = ends
    ran = []

    def later() -> None:
        ran.append("later")
        loop.stop()

    def read(_descriptor: int) -> None:
        ours.recv(1)
        loop.call_later(0.01, later)
        if inside:
            selector.select(0)  # what nest_asyncio comes to

    selector = Selector(read)
    loop = EventLoop(selector)
    selector.add(ours.fileno())
    theirs.send(b"x")
    loop.run_forever()
    loop.close()
    assert ran == ["later"]


@pytest.mark.timeout(20)
def test_what_leaves_nothing_is_read_on_and_timers_are_kept(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    read = []

    def one(_descriptor: int) -> None:
        read.append(ours.recv(1))
        if len(read) < 3:
            theirs.send(b"x")

    selector = Selector(one)
    loop = EventLoop(selector)
    selector.add(ours.fileno())
    theirs.send(b"x")
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.close()
    assert read == [b"x"] * 3
