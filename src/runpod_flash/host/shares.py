"""What workers are given one by one, each until its end: processors to run on, and ports to listen on."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack


class Processors:
    """Hands out the least used ones, the lowest number first, so that limited workers keep out of each other's way."""

    def __init__(self) -> None:
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._load = dict.fromkeys(sorted(allowed), 0.0)

    def lease(self, cpus: float, leases: ExitStack) -> list[int]:
        """Where a worker that is held to `cpus` runs; empty: anywhere."""
        count = math.ceil(cpus)
        if not 0 < count < len(self._load):
            return []
        chosen = sorted(self._load, key=lambda one: (round(self._load[one], 6), one))[:count]
        self._add(chosen, cpus / count)
        leases.callback(self._add, chosen, -cpus / count)
        return sorted(chosen)

    def _add(self, chosen: Iterable[int], share: float) -> None:
        for one in chosen:
            self._load[one] += share


class Ports:
    """Finds a free port for each that a worker wants to open: that very one, or else any."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def lease(self, wanted: Iterable[int], leases: ExitStack) -> dict[int, int]:
        """What the worker listens on, by what it wanted. Nobody else here is given these while it lives.

        A program that is no worker of ours may still come first; the worker then sees that its port is taken.
        """
        given = {}
        for number in wanted:
            port = number if number not in self._taken and _is_free(number) else self._any()
            self._taken.add(port)
            leases.callback(self._taken.discard, port)
            given[number] = port
        return given

    def _any(self) -> int:
        while True:
            with socket.socket() as listener:
                listener.bind(("", 0))
                port: int = listener.getsockname()[1]
            if port not in self._taken:
                return port


def _is_free(number: int) -> bool:
    with socket.socket() as listener:
        # A worker that has just ended leaves connections behind that would keep the port for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", number))
        except OSError:
            return False
    return True
