"""Load-balanced requests that wait for a worker: those of a pool in their order, and how many may wait at all."""

from __future__ import annotations

from typing import Final

from runpod_flash.engine.records import Pool, Request
from runpod_flash.errors import QueueFull

MOST: Final = 10_000
"""Calls of one endpoint that wait for a worker, beyond which new ones are refused."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""Bytes of the arguments of all that wait."""


class Waiting:
    """Puts requests into the lines of their pools and takes them out, and knows how many bytes they hold."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, request: Request) -> None:
        """At the end of the line of its pool; QueueFull where that is too long."""
        pool = request.fn.pool
        waiting = len(pool.requests)
        if waiting >= MOST or self._bytes >= MOST_BYTES:
            raise QueueFull(
                f"{waiting} calls of the endpoint {pool.endpoint.spec.name!r} wait for a worker",
                why=f"at most {MOST} calls and {MOST_BYTES >> 20} MiB may wait",
                fix="raise workersMax or max_concurrency, or call more slowly",
                retry_after_ms=1000,
            )
        pool.requests.append(request)
        self._bytes += request.size

    def put_back(self, request: Request) -> None:
        """To the head of the line, whose worker was lost: it has waited once."""
        request.fn.pool.requests.appendleft(request)
        self._bytes += request.size

    def take_next(self, pool: Pool) -> Request:
        """The one at the head."""
        request = pool.requests.popleft()
        self._bytes -= request.size
        return request

    def take(self, request: Request) -> None:
        """This one, wherever it stands."""
        request.fn.pool.requests.remove(request)
        self._bytes -= request.size

    def clear(self) -> None:
        """The pools are forgotten, and their lines with them."""
        self._bytes = 0
