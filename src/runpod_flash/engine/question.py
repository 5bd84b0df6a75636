"""What an HTTP request asks for: all of it but its body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runpod_flash.wire.messages import HttpReq

if TYPE_CHECKING:
    from runpod_flash.engine.affinity import Wanted
    from runpod_flash.engine.records import Function

_CALL: Final = b'{"call":"'


class Question:
    """One for all requests that ask for the same: it is put into words once, but for the id of the call."""

    __slots__ = ("_after_call", "fn", "head", "wanted")

    def __init__(self, fn: Function, head: HttpReq, wanted: Wanted) -> None:
        """`head` has no call."""
        self.fn = fn
        self.head = head
        self.wanted = wanted
        self._after_call = head.body()[len(_CALL) :]

    def head_for(self, call: str) -> bytes:
        """The head of the frame for a worker. Its first field is the call: what follows is the same for all."""
        return b"".join((_CALL, call.encode(), self._after_call))
