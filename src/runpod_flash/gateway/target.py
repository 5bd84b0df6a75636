"""What a request line names, taken apart with care: every byte of it comes from outside."""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)
_ESCAPES: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NOT_PLAIN: Final = re.compile(rb"[^\x21-\x7e]")
_CONTROL: Final = re.compile("[\0-\x1f\x7f]")


class BadTarget(ValueError):
    """It names nothing; the message says why."""


class Target(NamedTuple):
    """`host` only if the target itself said one; `path` is decoded, `query` as it came."""

    host: str | None
    path: str
    query: str


@functools.lru_cache(maxsize=256)  # clients ask for the same, over and over
def read(raw: bytes) -> Target:
    """The target of a request. BadTarget if it is none."""
    if _NOT_PLAIN.search(raw):
        raise BadTarget("the request target has bytes that must be percent-encoded")
    if raw.startswith(b"/"):
        host, (path, _, query) = None, raw.partition(b"?")
    else:
        found = _ABSOLUTE.fullmatch(raw)
        if found is None:
            raise BadTarget("the request target must be a path, such as /lb/name/route")
        host, path, query = found[1].decode("ascii"), found[2] or b"/", found[3] or b""
    if b"#" in path or b"#" in query:
        raise BadTarget("a request target has no fragment: write # as %23")
    return Target(host, _decode(path), query.decode("ascii"))


def below(raw: bytes, prefix: str) -> str:
    """Path and query as they came, without the `prefix` that names an endpoint, however that was written."""
    if not raw.startswith(b"/"):
        raw = b"/" + raw.split(b"/", 3)[3] if raw.count(b"/") > 2 else b"/"
    for _piece in range(prefix.count("/")):
        slash, question = raw.find(b"/", 1), raw.find(b"?")
        if slash < 0 or 0 <= question < slash:
            return "/" + (raw[question:].decode("ascii") if question >= 0 else "")
        raw = raw[slash:]
    return raw.decode("ascii")


def _decode(path: bytes) -> str:
    if b"%" not in path:
        return path.decode("ascii")
    if _ESCAPES.search(path):
        raise BadTarget("the path has a % that two hexadecimal digits must follow: write % as %25")
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise BadTarget("the path is not UTF-8") from None
    if _CONTROL.search(text):
        raise BadTarget("the path has control characters")
    return text
