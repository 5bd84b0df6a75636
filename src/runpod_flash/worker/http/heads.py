"""What requests say above their bodies: clients ask for the same again and again, so it is read once for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from runpod_flash.worker.link import decode_head

if TYPE_CHECKING:
    from runpod_flash.worker.http.binding import Plan

_CALL: Final = b'{"call":"'
_KEPT: Final = 256
_LARGEST_KEPT: Final = 4096


class Head:
    """The head of a request, of which many may have it in common: nobody changes it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.said = said
        self.method: str = said["method"]
        self.path: str = said["path"]
        self.query: str = said.get("query", "")
        self.headers: list[list[str]] = said.get("headers", [])
        self.params: dict[str, str] = said.get("params", {})
        self.more: bool = said.get("more", False)
        self.media_type = _media_type(self.headers)
        """The type of the body, without what follows it; "" if it is not said."""
        self.plan: Plan | None = None
        """How its function takes such requests, once that is known."""


class Heads:
    """Those that came lately."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, raw: bytes) -> tuple[str, Head]:
        """The id of the call, which an engine says first, and all the rest, which is the same for the same question."""
        call, mark, rest = raw[len(_CALL) :].partition(b'",')
        if not mark or not raw.startswith(_CALL):
            said = decode_head(raw)
            return said["call"], Head(said)
        head = self._known.get(rest)
        if head is None:
            head = Head(decode_head(b"{" + rest))
            if len(rest) <= _LARGEST_KEPT:
                self._keep(rest, head)
        return call.decode(), head

    def _keep(self, rest: bytes, head: Head) -> None:
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[rest] = head


def _media_type(headers: list[list[str]]) -> str:
    said = next((value for name, value in headers if name == "content-type"), "")
    return said.partition(";")[0].strip().lower()
