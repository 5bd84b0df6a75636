"""Requests whose heads have come before, to the last byte: programs say the same again and again.

A request of this kind that comes in one piece is neither parsed nor judged: what the first one led to is at hand. What
may have changed since, which function answers there, is looked at each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from runpod_flash.engine.question import Question

if TYPE_CHECKING:
    from runpod_flash.gateway.directory import Answerer, Directory
    from runpod_flash.gateway.runpod.verbs import Operation

_END: Final = b"\r\n\r\n"
_KEPT: Final = 256
_LARGEST_HEAD: Final = 4096


class Known(NamedTuple):
    """What a head means, and how long the body is that comes with it."""

    method: str
    answerer: Answerer
    question: Question
    length: int


class KnownJob(NamedTuple):
    """The same of a head of Runpod's protocol, whose handler looks at everything else each time."""

    method: str
    operation: Operation
    query: str
    headers: list[tuple[bytes, bytes]]
    length: int


class Repeats:
    """The heads that came lately, of all connections. Each has the token in it, as far as one is needed."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._known: dict[bytes, Known | KnownJob] = {}

    def find(self, data: bytes) -> tuple[Known | KnownJob, bytes] | None:
        """What the request means that `data` is, and its body; None if it must be read."""
        end = data.find(_END) + len(_END)
        known = self._known.get(data[:end])
        if known is None or known.length != len(data) - end:
            return None
        if isinstance(known, Known) and not self._directory.still_finds(known.answerer):
            return None
        return known, data[end:]

    def keep(self, data: bytes, known: Known | KnownJob) -> None:
        """`data` began with this request, and perhaps has more in it, or the body in pieces: then it is not kept."""
        end = data.find(_END) + len(_END)
        if known.length != len(data) - end or end > _LARGEST_HEAD:
            return
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[data[:end]] = known
