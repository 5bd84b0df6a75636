"""How webhooks are signed, and how whoever gets one checks it."""

from __future__ import annotations

import hashlib
import hmac


def secret_of(token: str) -> str:
    """What a receiver needs to know: made of the engine's token, and no way back to that."""
    return "whsec_" + hmac.new(token.encode(), b"flash webhooks", hashlib.sha256).hexdigest()


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Of a body that is sent at that time: HMAC-SHA256 over `SECONDS.BODY`, in hexadecimal digits."""
    return hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256).hexdigest()
