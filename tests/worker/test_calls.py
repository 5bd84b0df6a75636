"""Calls, as the engine sees them."""

from typing import Any
from tests.worker.peer import Peer


def test_a_plain_function_runs_and_answers(peer: Peer) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    assert peer.call(add, 1, 2).value == 3
