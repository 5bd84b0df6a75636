"""The bytes of functions and classes, for workers that do not have them yet."""

from __future__ import annotations

from typing import Final

from runpod_flash.engine.records import Worker
from runpod_flash.engine.state import State
from runpod_flash.wire.messages import Def

_KEPT: Final = 256
_LARGEST_KEPT: Final = 1024 * 1024


class Definitions:
    """Those on record; small ones that were asked for lately are kept in memory."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lately: dict[str, bytes] = {}

    def send(self, worker: Worker, digest: str) -> None:
        """Sends one to a worker. Without it the worker says that it cannot load the function."""
        body = self._find(digest)
        if body is not None:
            worker.sent.add(digest)
            self._state.turn.send(worker.link, Def(digest=digest).encode((body,)))

    def _find(self, digest: str) -> bytes | None:
        body = self._lately.get(digest)
        if body is None:
            body = self._state.store.definition(digest)
            if len(self._lately) >= _KEPT:
                self._lately.clear()
            if body is not None and len(body) <= _LARGEST_KEPT:
                self._lately[digest] = body
        return body
