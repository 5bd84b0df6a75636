"""A server that gets webhooks."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import trustme

from runpod_flash.wire.signing import signature


class Told(NamedTuple):
    headers: dict[str, str]
    body: bytes

    def is_signed_with(self, secret: str) -> bool:
        """As docs/runpod.md tells receivers to look."""
        said = dict(piece.split("=", 1) for piece in self.headers["x-flash-signature"].split(","))
        return said["v1"] == signature(secret, int(said["t"]), self.body)


def make_certificate(folder: Path) -> Path:
    """A key, a certificate for this machine, and that of whoever has signed it and nobody knows, in one file."""
    authority, file = trustme.CA(), folder / "certificate.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(file))
    authority.cert_pem.write_to_path(str(file), append=True)
    return file


class Receiver:
    """Answers with these statuses, one after the other, and then with 200. With a certificate, it speaks TLS."""

    def __init__(self, statuses: list[int] | None = None, certificate: Path | None = None) -> None:
        self._statuses = statuses or []
        self._told: list[Told] = []
        self._more = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver._take(Told({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        if certificate is not None:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/told?by=flash"

    def _take(self, told: Told) -> int:
        with self._more:
            self._told.append(told)
            self._more.notify_all()
            return self._statuses.pop(0) if self._statuses else 200

    @property
    def told(self) -> list[Told]:
        """Everything that has come so far."""
        with self._more:
            return list(self._told)

    def wait(self, number: int) -> list[Told]:
        """Everything that has come, once it is so many."""
        with self._more:
            assert self._more.wait_for(lambda: len(self._told) >= number, 60), f"{len(self._told)} came"
            return list(self._told)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
