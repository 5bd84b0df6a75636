"""What leaves when: with the commit of the turn, or at once."""

from __future__ import annotations

from collections.abc import Callable

from runpod_flash.engine.turn import Turn
from tests.engine.scene import Scene


class Peer:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.got = b""

    def send(self, data: bytes) -> None:
        self.got += data


def test_what_rests_on_nothing_written_leaves_at_once_but_never_before_what_was_said_first(scene: Scene) -> None:
    due: list[Callable[[], None]] = []
    turn = Turn(scene.store, call_soon=due.append, call_soon_threadsafe=due.append, on_failure=lambda error: None)
    told, other = Peer(), Peer()
    turn.send(told, b"1")
    turn.pass_on(other, b"a")
    assert other.got == b"a"
    turn.pass_on(told, b"2")
    assert told.got == b""
    (finish,) = due
    finish()
    assert told.got == b"12"
    turn.pass_on(told, b"3")
    assert told.got == b"123"
    turn.close()
