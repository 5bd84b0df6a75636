"""A request over HTTP for a port: its body as it comes, and the answer as the program gives it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from runpod_flash.gateway import ports
from runpod_flash.gateway.ports import Port, Upside
from runpod_flash.gateway.upload import HOLD_BACK, Upload

if TYPE_CHECKING:
    from runpod_flash.gateway.connection import Connection
    from runpod_flash.gateway.incoming import Incoming

logger = logging.getLogger(__name__)

_MOST_HEAD: Final = 64 * 1024
_PIECE: Final = 256 * 1024
_CLOSES: Final = (b"connection:", b"keep-alive:", b"proxy-connection:")
_END: Final = b"\r\n\r\n"


class PortRequest:
    """One request. Its connection ends with it: whose the next one is has to be found out anew."""

    def __init__(self, incoming: Incoming, connection: Connection, port: Port, upload: Upload, head: bytes) -> None:
        self._incoming = incoming
        self._connection = connection
        self._port = port
        self._upload = upload
        self._head = head
        self._chunked = b"\r\ntransfer-encoding: chunked\r\n" in head
        self._upside: Upside | None = None
        self._answer = bytearray()  # its head, as far as it has come
        self._answering = False
        self._said_end = False
        self._over = False
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            self._upside = await Upside.open(self._port, self._heard, self._ended, self.advance)
        except OSError as error:
            self._fail(f"does not answer ({error.strerror or error})")
            return
        if self._over:
            self._upside.close()
            return
        self._upside.write(self._head)
        self.advance()

    def advance(self) -> None:
        """Sends what there is of the body, as far as the program takes it."""
        upside, upload = self._upside, self._upload
        if self._over:
            return
        while upside is not None and upload.waiting and not upside.full:
            piece = upload.take(_PIECE)
            upside.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        if upside is not None and upload.complete and not upload.waiting and not self._said_end:
            self._said_end = True
            if self._chunked:
                upside.write(b"0\r\n\r\n")
        self._connection.hold_back(upload.waiting > HOLD_BACK)

    def flushed(self) -> None:
        """The client has read what was written."""
        if self._upside is not None:
            self._upside.hold_back(False)

    def vanish(self) -> None:
        """The client is gone."""
        self._over = True
        if self._upside is not None:
            self._upside.close()

    # ── what the program says ─────────────────────────────────────────────────────────────────────

    def _heard(self, data: bytes) -> None:
        if self._over:
            return
        if not self._answering:
            self._answer += data
            data = self._after_head()
            if len(self._answer) > _MOST_HEAD:
                self._fail(f"answers with a head of more than {_MOST_HEAD} bytes")
        if data and not self._over:
            self._incoming.pass_back(data)
        if self._connection.full and self._upside is not None:
            self._upside.hold_back(True)

    def _after_head(self) -> bytes:
        """Passes the head of the answer back once it is there, and the interim ones before it; what follows it."""
        while (end := self._answer.find(_END)) >= 0:
            head, rest = bytes(self._answer[:end]), bytes(self._answer[end + len(_END) :])
            first, *lines = head.split(b"\r\n")
            if not first.startswith(b"HTTP/1."):
                self._fail("answers in no HTTP/1.1")
                return b""
            if first[9:10] == b"1":  # what is said before an answer
                self._incoming.pass_back(head + _END)
                self._answer = bytearray(rest)
                continue
            kept = [line for line in lines if not line.lower().startswith(_CLOSES)]
            self._incoming.pass_back(b"\r\n".join([first, *kept, b"connection: close"]) + _END)
            self._answering, self._answer = True, bytearray()
            return rest
        return b""

    def _ended(self) -> None:
        if self._over:
            return
        if self._answering:
            self._over = True
            self._incoming.passed_back()
        else:
            self._fail("closed the connection without an answer")

    def _fail(self, why: str) -> None:
        if not self._over:
            self.vanish()
            self._incoming.not_passed_back(ports.no_answer(self._port, why))
