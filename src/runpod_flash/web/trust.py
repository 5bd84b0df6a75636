"""Who may ask at all, whatever he has for a token: programs of this machine, and pages that it serves itself.

A page of the web that a browser shows can send requests to loopback addresses. It says so in Origin, or, where it has
made its own name point here (DNS rebinding), in Host.
"""

from __future__ import annotations

import functools
import re
from typing import Final

LOCAL_SUFFIX: Final = ".localhost"
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.~-]+)(?::(?P<port>[0-9]{1,5})?)?", re.ASCII)
_ORIGIN: Final = re.compile(r"https?://(?P<host>.+)", re.ASCII | re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]|\[0:0:0:0:0:0:0:1\]", re.ASCII)


@functools.lru_cache(maxsize=256)
def host_name(host: str) -> str | None:
    """The name in a Host header, in lower case without its port; None if it is none."""
    found = _HOST.fullmatch(host)
    return found["name"].lower().rstrip(".") if found else None


def is_trusted(name: str) -> bool:
    """Whether a name means this machine, to every browser."""
    return _LOOPBACK.fullmatch(name) is not None or name.endswith(LOCAL_SUFFIX)


def is_trusted_origin(origin: str) -> bool:
    """Whether a page of that origin may ask."""
    found = _ORIGIN.fullmatch(origin)
    name = host_name(found["host"]) if found else None
    return name is not None and is_trusted(name)


def endpoint_of(name: str) -> str:
    """The endpoint that a host name names; "" if none."""
    return name.removesuffix(LOCAL_SUFFIX) if name.endswith(LOCAL_SUFFIX) else ""
