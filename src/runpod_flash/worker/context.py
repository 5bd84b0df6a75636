"""Which job runs here, for user code and for the SDK inside a worker."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class JobContext(NamedTuple):
    """The job that the current code belongs to."""

    job: str
    attempt: int
    name: str
    worker: str


CURRENT: ContextVar[JobContext | None] = ContextVar("flash_job", default=None)
"""The job that this code runs for; None outside of one. Tasks copy it as any context variable."""

_only: JobContext | None = None


def runs_alone(job: JobContext | None) -> None:
    """Says which job this worker runs, where it runs one at a time; None: none."""
    global _only
    _only = job


def only_one() -> JobContext | None:
    """The job that this worker runs, for code in threads, which do not inherit context variables; None if many do."""
    return _only
