"""The key to this engine: made once, kept in the data folder, readable by its owner alone."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from runpod_flash.errors import ConfigError

NAME: Final = "token"
_SHORTEST: Final = 16


def open_token(home: Path) -> str:
    """The token of a data folder, made if there is none. ConfigError if the file holds something else."""
    path = home / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path)
    with open(descriptor, "w", encoding="ascii") as file:
        token = f"flash-{secrets.token_urlsafe(32)}"
        file.write(token + "\n")
    return token


def _read(path: Path) -> str:
    path.chmod(0o600)
    token = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path} holds no token",
            why=f"a token is one word of at least {_SHORTEST} letters and digits",
            fix=f"remove the file, and the next start makes one: rm {path}",
        )
    return token


class Key:
    """Tells whether somebody has the token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._usual = b"Bearer " + self._token

    def fits(self, authorization: bytes) -> bool:
        """Whether a header says it: `Bearer …`, or the token alone."""
        if hmac.compare_digest(authorization, self._usual):
            return True
        scheme, _, rest = authorization.strip().partition(b" ")
        given = rest.strip() if scheme.lower() == b"bearer" else authorization.strip()
        return hmac.compare_digest(given, self._token)
