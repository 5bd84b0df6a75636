"""The port that `flash run` serves at."""

from __future__ import annotations

import errno
import socket
from typing import Final

from runpod_flash.cli import views
from runpod_flash.errors import UsageError

_PORTS: Final = 100
"""How many are tried from the one that was asked for."""


def listen(host: str, port: int) -> socket.socket:
    """A socket at that port, or the next that is free, which is said."""
    for number in range(port, min(port + _PORTS, 65536)) if port else [0]:
        try:
            listener = _bind(host, number)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise _cannot_listen(host, number, error) from None
        if number != port != 0:
            views.note(
                f"port {port} is taken (ss -ltnp 'sport = :{port}' shows by whom), so this is served at {number}"
            )
        return listener
    raise UsageError(f"no port from {port} on is free at {host}", fix="choose another: flash run --port PORT")


def _bind(host: str, port: int) -> socket.socket:
    # By its number: of the two addresses that localhost may have, browsers and curl try both.
    address = "127.0.0.1" if host == "localhost" else host
    family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    fix = "choose another: flash run --host localhost"
    if error.errno == errno.EACCES:
        fix = "choose a port above 1023: flash run --port 8888"
    return UsageError(f"nothing can listen at {host} port {port}", why=error.strerror or str(error), fix=fix)


def url(listener: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
