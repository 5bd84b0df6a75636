"""How a worker ends that has nothing to serve."""

from __future__ import annotations


class CannotStart(Exception):
    """What it should serve cannot be started. Whoever wrote that gets the message, without a traceback of ours."""
