"""Ports that workers have opened: what a request for one means, and the connection to it.

    /port/{worker or endpoint}/{number}/…

`number` is the one that was asked for (`expose_ports`), whatever the worker was given. Such a request goes straight to
the program that listens there, for a worker's own code may be busy and is not asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.gateway.reply import Reply, refusal

PREFIX: Final = "/port/"
ADDRESS: Final = "127.0.0.1"
OUTBOX: Final = 256 * 1024
_NOT_PASSED_ON: Final = frozenset(
    {b"authorization", b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"transfer-encoding"}
)

RawHeaders = list[tuple[bytes, bytes]]


class Port(NamedTuple):
    """A port of a worker: its number as it was asked for, and where it is. `prefix` is what names it in a path."""

    worker: str
    number: int
    given: int
    prefix: str


def find(exchanges: Exchanges, path: str) -> Port | Reply:
    """The port that a path names, or why there is none."""
    name, _, rest = path[len(PREFIX) :].partition("/")
    text = rest.partition("/")[0]
    if not name or not text.isdecimal() or len(text) > len("65535"):
        return refusal(404, f"a port is at {PREFIX}WORKER/NUMBER/… or {PREFIX}ENDPOINT/NUMBER/…")
    number, workers = int(text), exchanges.workers(name)
    if workers is None:
        return refusal(404, f"there is no worker and no endpoint {name!r}; flash ps lists them")
    known = sorted({port for one in workers for port in one.ports})
    for one in workers:
        if number in one.ports:
            return Port(one.id, number, one.ports[number], f"{PREFIX}{name}/{text}")
    if not workers:
        return refusal(503, f"no worker of {name!r} runs, and ports are theirs", (("retry-after", "5"),))
    has = f"has {', '.join(map(str, known))}" if known else "has none"
    return refusal(404, f"{name!r} {has}: expose_ports=[{number}] in its PodTemplate opens {number}")


def head_for(port: Port, method: str, target: str, headers: RawHeaders, more: RawHeaders) -> bytes:
    """The head of the request, as the program behind the port gets it."""
    kept = [one for one in headers if one[0] not in _NOT_PASSED_ON]
    lines = [f"{method} {target} HTTP/1.1".encode("ascii")]
    lines += [name + b": " + value for name, value in [*kept, (b"x-forwarded-prefix", port.prefix.encode()), *more]]
    return b"\r\n".join([*lines, b"", b""])


def no_answer(port: Port, why: str) -> Reply:
    """The answer where the program gives none."""
    return refusal(
        502,
        f"port {port.number} of worker {port.worker} {why}; its program has to listen at the number in "
        f"RUNPOD_TCP_PORT_{port.number}, which is {port.given}",
    )


class Upside(asyncio.Protocol):
    """The connection to the program. It tells its owner what comes, and when there is room for more."""

    def __init__(self, heard: Callable[[bytes], None], ended: Callable[[], None], room: Callable[[], None]) -> None:
        self.full = False
        self._heard, self._ended, self._room = heard, ended, room
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls, port: Port, heard: Callable[[bytes], None], ended: Callable[[], None], room: Callable[[], None]
    ) -> Upside:
        """Connects. OSError."""
        loop = asyncio.get_running_loop()
        _transport, one = await loop.create_connection(lambda: cls(heard, ended, room), ADDRESS, port.given)
        return one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=OUTBOX)

    def data_received(self, data: bytes) -> None:
        self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._ended()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._room()

    def write(self, data: bytes) -> None:
        """Sends."""
        if self._transport is not None:
            self._transport.write(data)

    def hold_back(self, hold: bool) -> None:
        """Whether nothing is read for now."""
        if self._transport is not None and not self._transport.is_closing():
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def close(self) -> None:
        """Ends it at once."""
        if self._transport is not None:
            self._transport.abort()
