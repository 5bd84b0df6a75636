"""Answers every request with why there is no app to answer it, until there is one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Final

_PATIENCE_S: Final = 5.0
_MOST: Final = 1 << 16


class Apology:
    """A server of one answer, on a port that somebody else holds."""

    def __init__(self, error: str) -> None:
        body = json.dumps({"detail": "the app cannot be loaded", "reason": error}, ensure_ascii=False).encode()
        self._answer = (
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self._server: asyncio.Server | None = None

    @classmethod
    async def begin(cls, listener: socket.socket, error: str) -> Apology:
        """Answers from here on."""
        apology = cls(error)
        apology._server = await asyncio.start_server(apology._serve, sock=listener.dup(), limit=_MOST)
        return apology

    async def close(self) -> None:
        """Answers nobody any more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PATIENCE_S)
            writer.write(self._answer)
            await writer.drain()
        writer.close()
