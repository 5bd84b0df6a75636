"""What the headers of a request say that matters here, and whether it may ask at all."""

from __future__ import annotations

import base64
import functools
from typing import Final, NamedTuple

from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.web import trust

RawHeaders = list[tuple[bytes, bytes]]

_READ: Final = frozenset({b"host", b"origin", b"authorization", b"expect", b"content-length", b"sec-fetch-site"})
_OWN: Final = frozenset({"", "none", "same-origin"})
_KEPT: Final = frozenset(
    {
        *(b"authorization", b"connection", b"keep-alive", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
"""What does not go on to a worker: the key, and what is about the connection."""


class Fields(NamedTuple):
    """`host` is the name alone, "" where an old client says none; `length` is -1 where none is said."""

    host: str
    length: int
    continues: bool
    authorization: bytes
    passed_on: tuple[tuple[str, str], ...] = ()


def read(headers: RawHeaders, minor: int) -> Fields | Reply:
    """The headers of a request of HTTP/1.minor, or why it is refused."""
    judged = _judged(tuple([one for one in headers if one[0] in _READ]), minor)
    if isinstance(judged, Reply):
        return judged
    passed_on = tuple([_as_text(*one) for one in headers if one[0] not in _KEPT])
    return Fields(judged.host, judged.length, judged.continues, judged.authorization, passed_on)


@functools.lru_cache(maxsize=64)  # a client says of itself what it has said before, whatever it asks for
def _judged(headers: tuple[tuple[bytes, bytes], ...], minor: int) -> Fields | Reply:
    said: dict[bytes, str] = {}
    for name, value in headers:
        if name in said:
            return refusal(400, f"the header {name.decode()} stands there twice")
        said[name] = value.decode("latin-1")
    return _refused(said, minor) or Fields(
        host=trust.host_name(said.get(b"host", "")) or "",
        length=int(said.get(b"content-length") or -1),
        continues=b"expect" in said and minor > 0,
        authorization=_authorization(said).encode("latin-1"),
    )


@functools.lru_cache(maxsize=256)
def _as_text(name: bytes, value: bytes) -> tuple[str, str]:
    return name.decode("latin-1"), value.decode("latin-1")


def _authorization(said: dict[bytes, str]) -> str:
    """What Authorization says, where a password is a token.

    A browser that has been told a password adds it by itself to whatever it asks of us, also for the page of somebody
    else. So a password counts only where a page of our own asks, or the person at the browser.
    """
    text = said.get(b"authorization", "")
    if text[:6].lower() != "basic ":
        return text
    origin = said.get(b"origin", "").lower()
    if said.get(b"sec-fetch-site", "").lower() not in _OWN:
        return ""
    if origin and origin.partition("://")[2] != said.get(b"host", "").lower():
        return ""
    try:
        password = base64.b64decode(text[6:].strip(), validate=True).partition(b":")[2]
    except ValueError:
        return ""
    return f"Bearer {password.decode('latin-1')}"


def asks_for_a_page(headers: RawHeaders) -> bool:
    """Whether it is a browser that shall show something."""
    return any(name == b"accept" and b"text/html" in value for name, value in headers)


def _refused(said: dict[bytes, str], minor: int) -> Reply | None:
    if b"host" in said:
        if refused := judge_host(said[b"host"]):
            return refused
    elif minor > 0:
        return refusal(400, "a request needs one Host header")
    if b"origin" in said and not trust.is_trusted_origin(said[b"origin"]):
        return refusal(403, "pages of other machines cannot ask this gateway (its Origin is not local)")
    if said.get(b"expect", "100-continue").lower() != "100-continue":
        return refusal(417, "the one thing that can be expected is 100-continue")
    if b"content-length" in said and not said[b"content-length"].isdecimal():
        return refusal(400, "Content-Length is no number")
    return None


def judge_host(host: str) -> Reply | None:
    """Why a request for this host is refused; None if it is not."""
    name = trust.host_name(host)
    if name is None:
        return refusal(400, "the Host header names no host")
    if not trust.is_trusted(name):
        return refusal(403, f"the host {name!r} is not local: ask for localhost, 127.0.0.1 or NAME.localhost")
    return None
