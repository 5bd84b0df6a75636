"""One line of `flash doctor`: what was looked at, and how it stands."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"


class Check(NamedTuple):
    """`fix` is what to do about it, "" where nothing is to be done; `facts` are for programs."""

    name: str
    level: str
    what: str
    fix: str = ""
    facts: dict[str, Any] = {}  # noqa: RUF012 - never changed
