from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from runpod_flash.host.loop import Loop
from runpod_flash.host.processes import Children, Exit, kill_tree, look_up, snapshot, spawn, tree_of


@pytest.fixture
def loop() -> Loop:
    def note(text: str) -> None:
        raise AssertionError(text)

    return Loop(note)


@pytest.fixture
def children(loop: Loop) -> Iterator[Children]:
    made = Children(loop)
    yield made
    made.close()


def run(loop: Loop, condition: list[Exit]) -> Exit:
    limit = time.monotonic() + 20
    while not condition:
        assert time.monotonic() < limit
        loop.turn(0.1)
    return condition[0]


def test_an_end_is_reported_with_code_or_signal_and_size(loop: Loop, children: Children) -> None:
    for script, code, number in (("exit 3", 3, None), ("kill -9 $$", None, 9)):
        ends: list[Exit] = []
        pid = spawn(["sh", "-c", script])
        children.watch(pid, ends.append)
        end = run(loop, ends)
        assert (end.pid, end.code, end.signal) == (pid, code, number)
        assert end.peak_rss_kb > 100
        assert str(end) == ("exit code 3" if code else "killed by SIGKILL")


def test_a_child_that_ends_before_it_is_named_is_not_lost(loop: Loop, children: Children) -> None:
    children.expect(1)
    pid = spawn(["true"])
    time.sleep(0.2)
    children.reap()
    ends: list[Exit] = []
    children.watch(pid, ends.append)
    children.expect(-1)
    assert run(loop, ends).code == 0


def test_a_whole_tree_dies_also_what_left_the_session(loop: Loop, children: Children) -> None:
    ends: list[Exit] = []
    root = spawn(["sh", "-c", "sleep 100 & setsid sh -c 'sleep 101 & sleep 102' & wait"])
    children.watch(root, ends.append)
    limit = time.monotonic() + 10
    while len(tree_of(root, snapshot())) < 5:
        assert time.monotonic() < limit
        time.sleep(0.02)
    pids = [row.pid for row in tree_of(root, snapshot())]
    kill_tree(root)
    assert run(loop, ends).signal == 9
    while any((row := look_up(pid)) and row.state != "Z" for pid in pids):
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_process_is_described_even_with_an_odd_name() -> None:
    code = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) b (c', 0, 0, 0); print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        row = look_up(child.pid)
        assert row is not None
        assert row.ppid == os.getpid()
        assert row.rss_kb > 1000
        assert child.stdin is not None
        child.stdin.close()


def test_a_mistake_in_a_callback_is_noted_and_the_loop_goes_on() -> None:
    notes: list[str] = []
    loop = Loop(notes.append)
    done: list[int] = []
    loop.after(0, lambda: 1 // 0)
    loop.after(0.01, lambda: done.append(1))
    cancelled = loop.after(0, lambda: done.append(2))
    cancelled.cancel()
    limit = time.monotonic() + 5
    while not done and time.monotonic() < limit:
        loop.turn(0.1)
    assert "ZeroDivisionError" in notes[0]
    assert done == [1]
