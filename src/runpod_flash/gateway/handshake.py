"""What a request for another protocol says. Pure.

A browser cannot send a header of its own choice with a websocket. So the token may be one of the subprotocols that it
offers: `new WebSocket(url, ["chat", "flash.bearer.TOKEN"])`. Nobody but the gateway sees that one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from runpod_flash.gateway.directory import Answerer
from runpod_flash.gateway.fields import RawHeaders

TOKEN_PROTOCOL: Final = "flash.bearer."
_PROTOCOLS: Final = b"sec-websocket-protocol"
_AUTHORIZATION: Final = b"authorization"


class Upgrade(NamedTuple):
    """The protocol that is asked for, in lower case; the subprotocol that carried the token, or ""."""

    name: str
    token_protocol: str


class Asked(NamedTuple):
    """The request, as it was judged. `early`: what came behind it."""

    answerer: Answerer
    upgrade: Upgrade
    headers: RawHeaders  # all that came
    passed_on: list[tuple[str, str]]
    query: str
    target: str
    early: bytes


def upgrade_of(headers: RawHeaders) -> Upgrade:
    """What is asked for."""
    wanted = b",".join(value for name, value in headers if name == b"upgrade")
    carried = [one for one in _offered(headers) if one.startswith(TOKEN_PROTOCOL)]
    return Upgrade(wanted.strip().lower().decode("latin-1"), carried[0] if carried else "")


def with_token(headers: RawHeaders) -> RawHeaders:
    """The headers, with a token from among the subprotocols where it belongs. One in Authorization goes before it."""
    offered = _offered(headers)
    carried = [one.removeprefix(TOKEN_PROTOCOL) for one in offered if one.startswith(TOKEN_PROTOCOL)]
    if not carried:
        return headers
    others = ", ".join(one for one in offered if not one.startswith(TOKEN_PROTOCOL)).encode("latin-1")
    kept = [one for one in headers if one[0] != _PROTOCOLS]
    if others:
        kept.append((_PROTOCOLS, others))
    if not any(name == _AUTHORIZATION for name, _value in kept):
        kept.append((_AUTHORIZATION, b"Bearer " + carried[0].encode("latin-1")))
    return kept


def _offered(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    listed = ",".join(value.decode("latin-1") for name, value in headers if name == _PROTOCOLS)
    return [one.strip() for one in listed.split(",") if one.strip()]
