"""How large the bodies of requests may be."""

from __future__ import annotations

from typing import Final, NamedTuple

from runpod_flash.gateway.reply import Reply, refusal
from runpod_flash.settings import OPTIONS, Settings

AROUND: Final = 64 * 1024
"""Bytes that a body may have beside what it carries: so large a value fits, whatever else is said of its job."""
RUN: Final = "run_body"
RUNSYNC: Final = "runsync_body"


class Limit(NamedTuple):
    """Bytes at most, and the variable that says so."""

    most: int
    variable: str

    def refusal(self) -> Reply:
        """What is said to a body that is larger."""
        return refusal(413, f"the body may have {self.most} bytes ({self.variable})")


class Limits:
    """Of one gateway. What a job may have does not go beyond what any body may have."""

    def __init__(self, settings: Settings) -> None:
        self.any = Limit(settings.gateway_body, OPTIONS["gateway_body"].variable)
        jobs = {name: Limit(getattr(settings, name) + AROUND, OPTIONS[name].variable) for name in (RUN, RUNSYNC)}
        self._of = {name: min(self.any, limit) for name, limit in jobs.items()}

    def of(self, name: str) -> Limit:
        """The limit of that setting; "" for what any body may have."""
        return self._of.get(name, self.any)
