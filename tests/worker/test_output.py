"""What user code prints, and how it reaches the host."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.worker.peer import Peer


def records(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The records of a log pipe: headers and their lines."""
    found = []
    while data:
        line, _, data = data.partition(b"\n")
        head = json.loads(line)
        size = head.get("n", 0)
        found.append((head, data[:size]))
        data = data[size:]
    return found


def test_a_silent_call_writes_nothing_and_says_so(peer: Peer) -> None:
    def silent() -> None: ...

    assert "logs" not in peer.call(silent).head
    assert os.get_blocking(peer.log.fd)
    os.set_blocking(peer.log.fd, False)
    try:
        assert os.read(peer.log.fd, 1) == b"nothing, and the next line is not reached"
    except BlockingIOError:
        return


def test_lines_carry_their_job_and_an_end(peer: Peer) -> None:
    def speak(text: str) -> None:
        print(text, "and", text)
        print("unfinished", end="")
        print("wrong", file=sys.stderr)

    done = peer.call(speak, "a", job="j1")
    assert done.head["logs"] is True
    assert records(peer.log.read_until(b'"end"') + b"") == [
        ({"job": "j1", "attempt": 1, "fd": 1, "n": 8}, b"a and a\n"),
        ({"job": "j1", "attempt": 1, "fd": 2, "n": 6}, b"wrong\n"),
        ({"job": "j1", "attempt": 1, "fd": 1, "n": 11}, b"unfinished\n"),
        ({"end": "j1", "attempt": 1}, b""),
    ]


def test_bare_output_is_noticed(peer: Peer) -> None:
    def write_bare() -> None:
        os.write(1, b"\xff\x00 garbage\n")

    def print_in_a_subprocess() -> None:
        subprocess.run(["echo", "from outside"], check=True)

    def print_in_c() -> None:
        import ctypes

        ctypes.CDLL(None).puts(b"from C")

    for function, text in (
        (write_bare, b"\xff\x00 garbage\n"),
        (print_in_a_subprocess, b"from outside\n"),
        (print_in_c, b"from C\n"),
    ):
        assert peer.call(function).head["logs"] is True
        peer.out.read_until(text)


def test_bare_output_that_the_host_has_read_already_is_noticed(peer: Peer) -> None:
    def write_and_wait() -> None:
        os.write(1, b"x\n")
        while not os.path.exists("go"):
            os.sched_yield()

    peer.start(write_and_wait)
    peer.page.add_raw_bytes(len(peer.out.read_until(b"x\n")))
    (peer.scratch / "files" / "go").touch()
    assert peer.done().head["logs"] is True


def test_streams_answer_as_streams_do(peer: Peer) -> None:
    def look() -> dict[str, Any]:
        sys.stdout.buffer.write(b"bytes\n")
        sys.stdout.write("\udce4\n")
        return {"fileno": sys.stderr.fileno(), "tty": sys.stdout.isatty(), "encoding": sys.stdout.encoding}

    assert peer.call(look).value == {"fileno": 2, "tty": False, "encoding": "utf-8"}
    text = peer.log.read_until(b'"end"')
    assert b"bytes\n" in text
    assert b"\\udce4\n" in text


def test_logging_starts_at_info_and_keeps_logger_and_extra(peer: Peer) -> None:
    def log() -> None:
        logger = logging.getLogger("shop.till")
        logger.debug("not this")
        logger.info("sold", extra={"item": "tea"})

    peer.call(log)
    text = peer.log.read_until(b'"end"')
    assert b'INFO shop.till: sold item="tea"\n' in text
    assert b"not this" not in text


def test_the_level_is_a_variable(new_peer: Callable[..., Peer]) -> None:
    def log() -> None:
        logging.getLogger("x").debug("fine detail")

    peer = new_peer(LOG_LEVEL="debug")
    peer.connect()
    peer.call(log)
    peer.log.read_until(b"DEBUG x: fine detail")


def test_user_code_may_configure_logging_itself(peer: Peer) -> None:
    def log() -> None:
        logging.basicConfig(format="mine: %(message)s")
        logging.getLogger().info("hello")

    peer.call(log)
    assert b"mine: hello\n" in peer.log.read_until(b'"end"')


def test_processes_that_user_code_forks_write_bare(peer: Peer) -> None:
    def fork() -> None:
        child = os.fork()
        if child == 0:
            print("from the child")
            os._exit(0)
        os.waitpid(child, 0)

    assert peer.call(fork).head["logs"] is True
    peer.out.read_until(b"from the child\n")
