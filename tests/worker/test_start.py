"""How workers come to be: forked from a zygote or started directly, and what they find."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runpod_flash.worker import zygote
from tests.worker.peer import Peer, Zygote, start_program


def surroundings() -> dict[str, Any]:
    import signal
    import threading

    return {
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "session": os.getsid(0) == os.getpid(),
        "parent": os.getppid(),
        "argv": sys.argv,
        "main": list(vars(sys.modules["__main__"])),
        "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "stdin": sys.stdin.read(),
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{fd}")),
        "oom": open("/proc/self/oom_score_adj").read().strip(),
        "path": sys.path,
        "threads": threading.active_count(),
    }  # fmt: skip


def check(found: dict[str, Any], peer: Peer, runtime: Path) -> None:
    assert found["environ"] == {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    assert found["cwd"] == str(peer.scratch / "files")
    assert found["session"]
    assert found["parent"] == os.getpid()
    assert found["argv"] == [""]
    assert "main" not in found["main"]
    assert found["sigterm"]
    assert found["stdin"] == ""
    assert found["path"][-1] == str(runtime)
    assert str(runtime) not in found["path"][:-1]
    assert found["threads"] == 2  # the main one and the watcher
    assert int(found["oom"]) == 500
    # Standard streams, both ends of two; the log pipe, the control and the engine's socket, epoll, and the mapped page.
    expected = ["/dev/null", *["pipe"] * 5, "socket", "socket", "anon_inode", str(peer.scratch / "page")]
    assert sorted(found["descriptors"]) == sorted(expected)


def test_a_forked_worker_is_clean_and_the_hosts_child(peer: Peer, runtime: Path) -> None:
    check(peer.call(surroundings).value, peer, runtime)


def test_a_worker_started_directly_finds_the_same(runtime: Path, tmp_path: Path) -> None:
    peer, program = Peer(tmp_path), start_program(runtime, "main.py")
    try:
        peer.started(program.ask(peer.order(), peer.descriptors()))
        assert peer.pid == program.process.pid
        assert peer.connect()["fresh"] is True
        check(peer.call(surroundings).value, peer, runtime)
    finally:
        program.link.close()
        program.process.kill()
        program.process.wait()
        peer.status = 0
        peer.stop()


def test_a_zygote_says_what_it_is(parent: Zygote) -> None:
    assert parent.ready["ready"] is True
    assert parent.ready["fork"] is True
    assert parent.ready["python"] == ".".join(map(str, sys.version_info[:3]))


def test_workers_outlive_their_zygote(runtime: Path, tmp_path: Path) -> None:
    parent, peer = start_program(runtime, "zygote.py"), Peer(tmp_path)
    try:
        parent.hear()
        peer.started(parent.ask(peer.order(), peer.descriptors()))
        parent.process.kill()
        parent.process.wait()
        peer.connect()
        assert peer.call(max, 1, 2).value == 2
    finally:
        parent.link.close()
        peer.stop()


def test_a_worker_that_cannot_be_set_up_says_why_and_leaves(parent: Zygote, tmp_path: Path) -> None:
    peer = Peer(tmp_path)
    order = {**peer.order(), "scratch": str(tmp_path / "nowhere")}
    peer.started(parent.ask(order, peer.descriptors()))
    assert peer.wait() == zygote.FAILED
    assert b"FileNotFoundError" in peer.err.read_until(b"nowhere")
    peer.stop()


def test_a_worker_whose_host_is_another_process_leaves(parent: Zygote, tmp_path: Path) -> None:
    peer = Peer(tmp_path)
    peer.started(parent.ask({**peer.order(), "host_pid": 1}, peer.descriptors()))
    assert peer.wait() == 70
    peer.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_process_with_a_second_thread_is_not_forked() -> None:
    import threading

    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        assert zygote.why_unsafe() == f"{threading.active_count()} Python threads run"
    finally:
        go.set()
        thread.join()


def test_a_zygote_that_became_unsafe_refuses_to_fork(runtime: Path, tmp_path: Path) -> None:
    unsafe = tmp_path / "runtime"
    shutil.copytree(runtime, unsafe)
    enter = unsafe / "runpod_flash" / "worker" / "enter.py"
    enter.write_text(
        enter.read_text() + "\n_plain_warm_up = warm_up\ndef warm_up():\n"
        "    import threading, time\n    _plain_warm_up()\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    parent = start_program(unsafe, "zygote.py")
    assert parent.hear()["fork"] is False
    (tmp_path / "w").mkdir()
    peer = Peer(tmp_path / "w")
    answer = parent.ask(peer.order(), peer.descriptors())
    assert answer == {"worker": "w1", "error": "unsafe", "why": "2 Python threads run"}
    parent.link.close()
    assert parent.process.wait(20) == 0
    peer.started({"pid": 0})
    peer.stop()


def test_messages_cut_into_pieces_are_put_together() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = b'{"worker": "w1"}'
        ours.sendall(len(body).to_bytes(4, "little") + body)
        assert zygote.receive(theirs) == ({"worker": "w1"}, [])
        ours.close()
        assert zygote.receive(theirs) is None


def test_forks_draw_different_random_numbers(new_peer: Callable[..., Peer]) -> None:
    def draw() -> float:
        import random

        return random.random()

    peers = [new_peer(), new_peer()]
    for peer in peers:
        peer.connect()
    assert peers[0].call(draw).value != peers[1].call(draw).value
