"""Tells others, by HTTP, that a job has ended: again after a pause, and a longer one, where they do not take it.

The body is the status object, with the input. Any answer of 200 to 299 will do. `x-flash-signature` says
`t=SECONDS,v1=HEX`: HEX is HMAC-SHA256 over `SECONDS.BODY`, with the secret that `flash runpod env` prints.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from functools import lru_cache, partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

from runpod_flash._version import __version__
from runpod_flash.engine.http_jobs import Told
from runpod_flash.engine.webhooks import Due, Webhooks
from runpod_flash.gateway.runpod import rendering
from runpod_flash.wire.frame import Buffer
from runpod_flash.wire.signing import signature

logger = logging.getLogger(__name__)

TRIES: Final = 8
_AT_ONCE: Final = 16
_PATIENCE_S: Final = 15.0
_LONGEST_LINE: Final = 8192
_READ_ON: Final = 64 * 1024


class Teller:
    """Tells whoever is to be told."""

    def __init__(self, webhooks: Webhooks, secret: str, pause_s: float) -> None:
        self._webhooks = webhooks
        self._secret = secret
        self._pause_ms = int(pause_s * 1000)
        self._loop = asyncio.get_running_loop()
        self._telling: dict[str, asyncio.Task[None] | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Begins with what is on record."""
        self._webhooks.on_due = self._look
        self._look()

    async def close(self) -> None:
        """Breaks off what is under way: it will be told again by the next engine."""
        self._closed = True
        self._webhooks.on_due = lambda: None
        if self._timer is not None:
            self._timer.cancel()
        tasks = [one for one in self._telling.values() if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self) -> None:
        """Begins what is due; looks again when the next will be."""
        if self._closed or not self._webhooks.pending:
            return
        now = self._webhooks.now_ms()
        for due in self._webhooks.due():
            if due.job in self._telling:
                continue
            if due.at_ms > now:
                self._look_at(due.at_ms - now)
                break
            if len(self._telling) >= _AT_ONCE:
                break  # whoever is done looks again
            self._telling[due.job] = None
            self._webhooks.news(due, partial(self._begin, due))

    def _look_at(self, in_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(in_ms / 1000 + 0.001, self._look)

    def _begin(self, due: Due, news: tuple[Told, Buffer] | None) -> None:
        if news is None or self._closed:
            self._telling.pop(due.job, None)
            return
        told, given = news
        status = rendering.status(told)
        body = b"".join((status[:-1], b',"input":', bytes(given), b"}"))
        self._telling[due.job] = self._loop.create_task(self._tell(due, body), name=f"webhook of {due.job}")

    async def _tell(self, due: Due, body: bytes) -> None:
        try:
            error = await self._try(due, body)
        finally:
            del self._telling[due.job]
        again: int | None = None
        if error and due.tries + 1 < TRIES:
            again = self._webhooks.now_ms() + (self._pause_ms << due.tries)
        elif error:
            logger.warning("the webhook of job %s is given up after %d tries: %s", due.job, TRIES, error)
        self._webhooks.tried(due, again, error)

    async def _try(self, due: Due, body: bytes) -> str:
        """What went wrong; "" if nothing."""
        url = urlsplit(due.url)
        try:
            status = await asyncio.wait_for(_post(url, self._head(url, due, body), body), _PATIENCE_S)
        except (asyncio.TimeoutError, TimeoutError):
            return f"no answer within {_PATIENCE_S:g} s"
        except ssl.SSLCertVerificationError as error:
            where = "the file that SSL_CERT_FILE named when the engine was started"
            return f"its certificate is not trusted ({error.verify_message}): its CA has to be in {where}"
        except (OSError, ValueError, ssl.SSLError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if 200 <= status < 300 else f"answered with {status}"

    def _head(self, url: SplitResult, due: Due, body: bytes) -> bytes:
        seconds = int(time.time())
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = [
            f"POST {target} HTTP/1.1",
            f"host: {url.netloc.rpartition('@')[2]}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"user-agent: flash/{__version__}",
            f"x-flash-job: {due.job}",
            f"x-flash-try: {due.tries + 1}",
            f"x-flash-signature: t={seconds},v1={signature(self._secret, seconds, body)}",
            "connection: close",
            "\r\n",
        ]
        return "\r\n".join(lines).encode("ascii")


async def _post(url: SplitResult, head: bytes, body: bytes) -> int:
    """Sends a request, and gives the status of its answer."""
    secure = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or (443 if secure else 80), ssl=_context() if secure else None, limit=_LONGEST_LINE
    )
    try:
        writer.writelines((head, body))
        await writer.drain()
        line = await reader.readline()
        await reader.read(_READ_ON)  # closed with unread bytes, a connection is reset, and the other side sees an error
    finally:
        writer.close()
    pieces = line.split(b" ", 2)
    if len(pieces) < 2 or not pieces[0].startswith(b"HTTP/1.") or not pieces[1].isdigit():
        raise ValueError("what answers does not speak HTTP/1.1")
    return int(pieces[1])


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
